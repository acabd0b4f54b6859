from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from adversary.problem.foreign_models import ForeignModelError, adapt

SHAPE = (1, 8, 8)


def body(outputs=3):
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, outputs))


class Own(nn.Module):
    """Ends in a function instead of a module."""

    def __init__(self, end, outputs=3):
        super().__init__()
        self.body = body(outputs)
        self.end = end

    def forward(self, x):
        return self.end(self.body(x))


ENDS = {
    "logits": (lambda: body(), lambda: Own(lambda z: z)),
    "sigmoid": (lambda: nn.Sequential(body(1), nn.Sigmoid()), lambda: Own(torch.sigmoid)),
    "softmax": (
        lambda: nn.Sequential(body(), nn.Softmax(1)),
        lambda: Own(lambda z: functional.softmax(z, 1)),
    ),
    "log-softmax": (
        lambda: nn.Sequential(body(), nn.LogSoftmax(1)),
        lambda: Own(lambda z: functional.log_softmax(z, 1)),
    ),
}


@pytest.mark.parametrize("output", ENDS)
@pytest.mark.parametrize("kind", [0, 1])
def test_the_end_of_a_model_is_recognised_and_undone(output, kind):
    model = ENDS[output][kind]()
    before = copy.deepcopy(model.state_dict())
    found = adapt(model, SHAPE)
    assert found.output == output
    images = torch.rand(5, *SHAPE)
    theirs, ours = model(images), found.model(images)
    if output == "sigmoid":
        targets = torch.rand(theirs.shape).round()
        assert torch.allclose(
            functional.binary_cross_entropy(theirs, targets),
            functional.binary_cross_entropy_with_logits(ours, targets),
            atol=1e-6,
        )
    elif output == "log-softmax":
        labels = torch.arange(5) % 3
        assert torch.allclose(
            functional.nll_loss(theirs, labels), functional.cross_entropy(ours, labels)
        )
    else:
        assert torch.equal(theirs, ours)
    assert found.model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_an_untrained_output_that_lies_between_0_and_1_is_no_sigmoid():
    model = body(1)
    with torch.no_grad():
        model[-1].weight.mul_(1e-3)
        model[-1].bias.fill_(0.5)
    assert adapt(model, SHAPE).output == "logits"


@pytest.mark.parametrize("normalise", [(0.5, 0.25), ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), ([0.5], 1)])
def test_images_are_normalised_before_the_model(normalise):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    ours = adapt(model, (3, 8, 8), normalise).model
    images = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(part).float().view(-1, 1, 1) for part in normalise)
    expected = model((images - mean) / std)
    assert torch.allclose(ours(images), expected)
    assert torch.allclose(
        copy.deepcopy(ours).double()(images.double()).float(), expected, atol=1e-5
    )
    assert torch.allclose(fx.symbolic_trace(ours)(images), expected)
    assert ours.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("shape", "normalise", "said"),
    [
        ((14,), None, "tables hold no images"),
        ((1, 8), None, "three whole numbers"),
        ((1, 0, 8), None, ">= 1"),
        ((1.0, 8, 8), None, "whole numbers"),
        ((3, 8, 8), None, "takes no such images"),
        ((1, 9, 9), None, "takes no such images"),
        (SHAPE, (0.5,), "normalise"),
        (SHAPE, (0.5, 0.0), "std > 0"),
        (SHAPE, ((0.5, 0.5), 1.0), "normalise"),
        (SHAPE, ("a", 1.0), "normalise"),
    ],
)
def test_what_does_not_fit_is_a_line(shape, normalise, said):
    with pytest.raises(ForeignModelError, match=said) as refused:
        adapt(body(), shape, normalise)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("end", [lambda z: (z, z), lambda z: z[:, :, None], lambda z: z.sum()])
def test_outputs_of_another_kind_are_a_line(end):
    with pytest.raises(ForeignModelError, match="must return"):
        adapt(Own(end), SHAPE)


def test_random_numbers_stay_as_they_were():
    model = nn.Sequential(body(), nn.Dropout(0.5))
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    adapt(model, SHAPE)
    assert torch.equal(torch.rand(3), expected)
