"""Every architecture: what it takes, what it gives, and that attacks can differentiate it."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from fl_sim.models import MODELS, Classifier, ModelError, create
from fl_sim.models.adapt import batch_to_group_norm, grey_stem
from fl_sim.models.convnet import ACTIVATIONS

SMALL = ("lenet", "convnet", "mobilenet", "efficientnet0", "resnet18-sigmoid")
SMALLEST = {
    "lenet": 4,
    "convnet": 8,
    "mobilenet": 4,
    "efficientnet0": 8,
    "resnet18-sigmoid": 4,
    "resnet18": 8,
    "resnet50": 8,
    "densenet121": 32,
    "efficientnet-b0": 8,
    "convnext-tiny": 32,
}
ENCODINGS = {
    "lenet": lambda s: 12 * math.ceil(s / 4) ** 2,
    "convnet": lambda s: 128 * math.ceil(s / 8) ** 2,
    "mobilenet": lambda s: 16 * math.ceil(s / 4) ** 2,
    "efficientnet0": lambda s: 1280 * math.ceil(s / 32) ** 2,
    "resnet18-sigmoid": lambda s: 24 * (s // 4) ** 2,
    "resnet18": lambda s: 512,
    "resnet50": lambda s: 2048,
    "densenet121": lambda s: 1024,
    "efficientnet-b0": lambda s: 1280,
    "convnext-tiny": lambda s: 768,
}


def build(name, channels=1, image_size=32, outputs=2, **kwargs):
    return create(name, channels=channels, image_size=image_size, outputs=outputs, **kwargs)


def images(count, channels=1, size=32, seed=0):
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("channels", "size", "outputs"), [(1, None, 1), (3, 33, 5)])
def test_shapes_at_the_smallest_and_at_an_odd_size(name, channels, size, outputs):
    size = size or SMALLEST[name]
    model = build(name, channels, size, outputs).eval()
    x = images(2, channels, size)
    encodings = model.encode(x)
    assert encodings.shape == (2, ENCODINGS[name](size))
    assert isinstance(model.head, nn.Linear)
    assert model(x).shape == (2, outputs)
    assert torch.equal(model(x), model.head(encodings))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [28, 30, 64])
def test_head_fits_sizes_that_strides_do_not_divide(name, size):
    model = build(name, image_size=size)
    assert model.encode(images(2, size=size)).shape[1] == ENCODINGS[name](size)


def test_lenet_has_the_papers_encodings_and_parameters():
    model = build("lenet", channels=3, image_size=32, outputs=100)
    assert model.head.in_features == 768
    convolutions = 3 * 12 * 25 + 12 + 3 * (12 * 12 * 25 + 12)
    assert sum(p.numel() for p in model.parameters()) == convolutions + 100 * 769


@pytest.mark.parametrize("name", MODELS)
def test_images_must_not_be_smaller_than_the_architecture_takes(name):
    with pytest.raises(ModelError, match=rf"data.image-size = .*{name} takes \d+ pixels") as error:
        build(name, image_size=SMALLEST[name] - 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "model.name = 'resnet19': must be one of lenet"),
        ({"name": "lenet", "channels": 2}, "data.channels = 2: must be 1 or 3"),
        ({"name": "lenet", "outputs": 0}, "at least 1 output"),
        ({"name": "convnet", "activation": "swish"}, "model.activation = 'swish': must be one of"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(arguments, message):
    with pytest.raises(ModelError, match=message):
        build(**arguments)


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_from_the_seed_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(name, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = build(name, seed=7), build(name, seed=8)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(first.head.weight, other.head.weight)


def mismatch_slope(model, x, target):
    """Return the squared gradient mismatch as a function of the image, and its slope at x."""
    y, weights = torch.tensor([1]), list(model.parameters())

    def gradient(image, create_graph=False):
        loss = nn.functional.cross_entropy(model(image), y)
        return torch.autograd.grad(loss, weights, create_graph=create_graph)

    goal = gradient(target)

    def mismatch(image, create_graph=False):
        pairs = zip(gradient(image, create_graph), goal, strict=True)
        return sum((a - b).square().sum() for a, b in pairs)

    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mismatch(x, create_graph=True), x)
    return mismatch, slope


@pytest.mark.parametrize("name", SMALL)
def test_the_slope_of_gradient_matching_is_right(name):
    model = build(name, image_size=16, outputs=3).double().eval()
    x, target = images(1, size=16).double(), images(1, size=16, seed=1).double()
    mismatch, slope = mismatch_slope(model, x, target)
    step = 1e-6 * slope / slope.norm()  # small: a ReLU's switches are kinks
    difference = (mismatch(x + step) - mismatch(x - step)) / 2e-6
    assert float(difference) == pytest.approx(float(slope.norm()), rel=1e-3)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SMALL)))
def test_gradient_matching_reaches_the_image_through_deep_networks(name):
    size = SMALLEST[name]
    model = build(name, image_size=size, outputs=3).eval()
    _, slope = mismatch_slope(model, images(1, size=size), images(1, size=size, seed=1))
    assert bool(slope.isfinite().all())
    assert slope.double().norm() > 0  # squares of an untrained EfficientNet's underflow


@pytest.mark.parametrize("name", MODELS)
def test_per_image_gradients_by_vmap_are_those_one_by_one(name):
    size = max(8, SMALLEST[name])
    model = build(name, image_size=size).eval()
    x, y = images(2, size=size), torch.tensor([0, 1])
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def loss(w, image, label):
        logits = functional_call(model, {**w, **buffers}, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    stacked = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y)["head.weight"]
    for i in range(2):
        model.zero_grad()
        nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        torch.testing.assert_close(stacked[i], model.head.weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_works_in_place_or_at_random(name):
    model = build(name).train()
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    x = images(2)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "densenet121", "efficientnet-b0", "convnext-tiny"]
)
def test_a_grey_stem_sees_a_grey_image_as_rgb_copies(name):
    grey, colour = build(name, channels=1).eval(), build(name, channels=3).eval()
    x = images(2)
    stem = "body." + next(n for n, _ in grey.body.named_parameters())
    assert grey.state_dict()[stem].shape[1] == 1
    a, b = grey.encode(x), colour.encode(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_stem_that_fits_is_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    weight = network[0].weight
    grey_stem(network, 3)
    assert network[0].weight is weight


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convnet_uses_the_activation_asked_for(activation):
    model = build("convnet", activation=activation)
    assert sum(isinstance(m, ACTIVATIONS[activation]) for m in model.modules()) == 3


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_blocks_compute_what_torchvisions_do(name):
    from torchvision.models import get_model

    ours, theirs = build(name, channels=3).eval(), get_model(name, weights=None).eval()
    weights = {k.removeprefix("body."): v for k, v in ours.state_dict().items() if "body." in k}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])
    theirs.fc = nn.Identity()
    x = images(2, 3)
    torch.testing.assert_close(ours.encode(x), theirs((x - 0.5) / 0.25))


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "densenet121", "efficientnet-b0", "resnet18-sigmoid"]
)
def test_group_norm_sees_each_image_alone_and_keeps_no_statistics(name):
    model = build(name, norm="group", seed=3).train()
    plain = build(name, seed=3)
    assert not any("running" in key for key in model.state_dict())
    assert not list(model.buffers())
    for key, value in model.named_parameters():
        assert torch.equal(value, plain.get_parameter(key))
    x = images(3)
    together, alone = model(x), torch.cat([model(one) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (8, 8), (12, 12), (24, 24), (64, 32), (48, 24), (37, 1)]
)
def test_groups_are_the_largest_divisor_up_to_32(channels, groups):
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(channels, eps=1e-3)))
    nn.init.uniform_(network[0][0].weight)
    scale = network[0][0].weight.detach().clone()
    assert batch_to_group_norm(network) == 1
    norm = network[0][0]
    assert (type(norm), norm.num_groups, norm.eps) == (nn.GroupNorm, groups, 1e-3)
    assert torch.equal(norm.weight, scale)


def test_group_norm_without_batch_norm_is_refused():
    with pytest.raises(ModelError, match="model.norm = 'group': lenet has no batch normalis"):
        build("lenet", norm="group")
    with pytest.raises(ModelError, match="model.norm = 'layer': must be one of batch, group"):
        build("resnet18", norm="layer")


def test_normalisation_is_in_the_model_and_not_in_its_state():
    model = Classifier(nn.Identity(), nn.Linear(4, 1), mean=0.5, std=0.25)
    x = torch.tensor([0.0, 0.5, 0.75, 1.0]).view(1, 1, 2, 2)
    assert model.encode(x).tolist() == [[-2, 0, 1, 2]]
    assert set(model.state_dict()) == {"head.weight", "head.bias"}
