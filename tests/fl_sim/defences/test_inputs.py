"""Every defence leaves its inputs alone; noise has the size it says."""

import copy

import pytest
import torch

from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from fl_sim.defences import DEFENCES, DefenceError, LocalUpdate, create
from fl_sim.models import create as create_model

RECIPE = TrainingRecipe(lr=0.1, batch_size=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def update():
    model = create_model("resnet18-sigmoid", channels=1, image_size=32, outputs=2)
    sent = copy.deepcopy(model.state_dict())
    random = generator(9)
    returned = {
        k: v + 0.01 * torch.randn(v.shape, generator=random) if v.is_floating_point() else v + 1
        for k, v in sent.items()
    }
    model.load_state_dict(returned)
    return LocalUpdate(
        sent=sent,
        returned=returned,
        model=model,
        recipe=RECIPE,
        images=torch.rand(4, 1, 32, 32, generator=random),
        labels=torch.tensor([0, 1, 1, 0]),
    )


@pytest.mark.parametrize("name", DEFENCES)
def test_inputs_stay_and_shapes_and_types_are_kept(name, update):
    sent, returned = update.sent, update.returned
    before = copy.deepcopy((sent, returned, update.model.state_dict()))
    left = create(name).apply(update, generator=generator())
    for now, then in zip((sent, returned, update.model.state_dict()), before, strict=True):
        assert all(torch.equal(v, then[k]) for k, v in now.items())
    assert list(left) == list(returned)
    for key, value in left.items():
        assert (value.shape, value.dtype) == (returned[key].shape, returned[key].dtype)


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_says_what_it_protects(name):
    defence = create(name)
    assert len(defence.protects.split()) > 5
    assert create(name, {k: str(v) for k, v in defence.describe().items()}) == defence


def test_none_changes_nothing(update):
    left = create("none").apply(update, generator=generator())
    assert all(torch.equal(left[k], v) for k, v in update.returned.items())


@pytest.mark.parametrize("scale", ["0.1", "3"])
def test_noise_is_in_proportion_to_the_update(scale, update):
    sent, returned = update.sent, update.returned
    defence = create("gaussian-noise", {"scale": scale})
    left = defence.apply(update, generator=generator())
    for key in ("body.2.conv1.weight", "body.8.conv2.weight"):
        noise = (left[key] - returned[key]).double()
        expected = float(scale) * (returned[key] - sent[key]).double().square().mean().sqrt()
        assert float(noise.std()) == pytest.approx(float(expected), rel=0.05)
        assert abs(float(noise.mean())) < 5 * float(expected) / noise.numel() ** 0.5


def test_noise_leaves_buffers_and_untouched_arrays_as_they_are(update):
    sent, returned = update.sent, update.returned
    returned["head.bias"] = sent["head.bias"].clone()
    left = create("gaussian-noise", {"scale": "1"}).apply(update, generator=generator())
    same = {k for k, v in returned.items() if torch.equal(left[k], v)}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert same == {k for k in returned if k.endswith(statistics)} | {"head.bias"}


def test_noise_comes_from_the_generator_alone(update):
    defence = create("gaussian-noise")
    torch.manual_seed(1)
    first = defence.apply(update, generator=generator(1))["head.weight"]
    torch.manual_seed(2)
    again = defence.apply(update, generator=generator(1))["head.weight"]
    other = defence.apply(update, generator=generator(2))["head.weight"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("scale", ["0.5", "2"])
def test_an_attacker_knows_the_size_of_the_noise(scale, update):
    defence = create("gaussian-noise", {"scale": scale})
    left = defence.apply(update, generator=generator())
    seen = Observation(
        round=1, client="client-00", sent=update.sent, returned=left, num_examples=4, recipe=RECIPE
    )
    known = defence.channel(seen).noise
    for key in ("body.2.conv1.weight", "body.8.conv2.weight"):
        assert float((left[key] - update.returned[key]).std()) == pytest.approx(known[key], rel=0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian", {}, "defence.name = 'gaussian': .*; did you mean gaussian-noise?"),
        (
            "gaussian-noise",
            {"scael": "1"},
            "scael: unknown option; gaussian-noise takes scale; did you mean scale?",
        ),
        ("gaussian-noise", {"scale": "much"}, "defence.scale = 'much': must be a number"),
        ("gaussian-noise", {"scale": "-1"}, "defence.scale = -1.0: must be a number >= 0"),
        ("gaussian-noise", {"scale": "nan"}, "scale = nan: must be a number >= 0"),
        ("none", {"scale": "1"}, "scale: unknown option; none takes no options"),
    ],
)
def test_mistakes_are_named_in_one_line(name, options, message):
    with pytest.raises(DefenceError, match=message) as error:
        create(name, options)
    assert "\n" not in str(error.value)
