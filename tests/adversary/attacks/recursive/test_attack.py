from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from adversary import Limits, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import AttackError, AttackOptionError, create
from adversary.attacks.recursive import attack as module
from adversary.attacks.recursive import layer_equations, patterns_by_enumeration
from adversary.attacks.recursive.image_scales import image_scales
from adversary.attacks.recursive.layer_graph import GraphError, LayerGraph
from adversary.attacks.recursive.layer_recursion import (
    LayerEstimate,
    LayerRecursion,
    LayerRecursionError,
)
from adversary.observation.channel import Channel
from adversary.problem.problem import build_problem


class Block(nn.Module):
    """A residual block, with a convolution in its shortcut where it changes the shape."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        same = width == out and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(width, out, 1, stride)

    def forward(self, x):
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + self.short(x))


class SmallResNet(nn.Module):
    """Three blocks, as ResNet has them, for 16 x 16 images; 2 x 2 positions before the mean."""

    def __init__(self, outputs=2, pooled=False):
        super().__init__()
        stem = [nn.Conv2d(1, 64, 5, 2, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.stem = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity())
        last = Block(96, 128, 1 if pooled else 2)
        self.blocks = nn.Sequential(Block(64, 64, 1), Block(64, 96, 2), last)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, outputs)

    def forward(self, images):
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(images - 0.5))), 1))


class Before(nn.Module):
    """A residual block whose normalisations and ReLUs come before its convolutions."""

    def __init__(self, width):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, 1, 1, bias=False)

    def forward(self, x):
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())


class PreActivation(nn.Module):
    """Residual blocks that are switched before they convolve; 2 x 2 positions before the mean."""

    def __init__(self, outputs=2):
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 7, 4, 3, bias=False)
        self.first = nn.Sequential(Before(64), nn.BatchNorm2d(64), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(64, 96, 3, 2, 1), Before(96), nn.BatchNorm2d(96))
        self.head = nn.Linear(96, outputs)

    def forward(self, images):
        x = self.second(self.first(self.stem(images - 0.5))).relu()
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class DenseLayer(nn.Module):
    """Two convolutions, each after a normalisation and a ReLU; its output beside its input."""

    def __init__(self, width, growth, inner):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, growth, 3, 1, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, *parts):
        x = self.conv1(self.relu(self.norm1(torch.cat(parts, 1))))
        return self.conv2(self.relu(self.norm2(x)))


class SmallDenseNet(nn.Module):
    """Two densely connected blocks, as DenseNet has them: 4 x 4 and 2 x 2 positions."""

    def __init__(self, outputs=2, growth=24, inner=48):
        super().__init__()
        stem = [nn.Conv2d(1, 64, 7, 4, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.stem = nn.Sequential(*stem)
        self.first = nn.ModuleList(DenseLayer(64 + i * growth, growth, inner) for i in range(2))
        wide = 64 + 2 * growth
        self.between = nn.Sequential(nn.BatchNorm2d(wide), nn.ReLU(), nn.Conv2d(wide, 56, 1))
        self.average = nn.AvgPool2d(2)
        self.second = nn.ModuleList(DenseLayer(56 + i * growth, growth, inner) for i in range(2))
        self.norm = nn.BatchNorm2d(56 + 2 * growth)
        self.head = nn.Linear(56 + 2 * growth, outputs)

    def forward(self, images):
        parts = [self.stem(images - 0.5)]
        for layer in self.first:
            parts.append(layer(*parts))
        parts = [self.average(self.between(torch.cat(parts, 1)))]
        for layer in self.second:
            parts.append(layer(*parts))
        x = torch.relu(self.norm(torch.cat(parts, 1)))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Chain(nn.Module):
    """Convolutions and functional ReLUs, flattened for two linear layers."""

    def __init__(self, outputs=3):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, 2, 1)
        self.conv2 = nn.Conv2d(24, 48, 3, 2, 1)
        self.hidden = nn.Linear(48 * 16, 40)
        self.head = nn.Linear(40, outputs)

    def forward(self, images):
        x = torch.relu(self.conv2(functional.relu(self.conv1(images))))
        return self.head(self.hidden(x.flatten(1)).relu())


def made(kind, seed, **options):
    """Return a network whose batch normalisation has seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(**options)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.bias, std=0.1)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                layer.running_mean.normal_(std=0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return model


def smooth_images(count, seed):
    noise = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(16, 16), mode="bicubic").clamp(0, 1)


def posed(train, kind=SmallResNet, *, batch=1, seed=0, labels=None, threat=None, **recipe):
    options = {name: recipe.pop(name) for name in ("outputs", "inner") if name in recipe}
    model = made(kind, seed, **options)
    images = smooth_images(batch, seed)
    labels = torch.arange(batch) % 2 if labels is None else labels
    recipe = {"lr": 0.1, "batch_size": batch, "batch_norm": "eval", "update": "gradient", **recipe}
    told = TrainingRecipe(**recipe)
    seen = train(model, images, labels, dataclasses.replace(told, update="weights"))
    if told.update == "gradient":
        model.eval()
        logits = model(images)
        loss = (
            functional.cross_entropy(logits, labels)
            if told.loss == "cross-entropy"
            else functional.binary_cross_entropy_with_logits(logits, labels)
        )
        names, weights = zip(*model.named_parameters(), strict=True)
        gradient = dict(zip(names, torch.autograd.grad(loss, weights), strict=True))
        seen = dataclasses.replace(seen, returned=gradient, recipe=told)
    return (
        build_problem(seen, threat or ThreatModel(), model, image_shape=(1, 16, 16)),
        images,
        labels,
    )


def psnr(found, truth):
    return float(-10 * (found - truth).square().mean().log10())


def paired(found, truth):
    """Return for each true image the nearest found one, each once."""
    apart = torch.cdist(truth.flatten(1), found.flatten(1))
    order = apart.argmin(1)
    assert sorted(order.tolist()) == list(range(len(truth)))
    return order


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [SmallResNet, PreActivation, Chain])
def test_one_image_comes_back_exactly(update, kind, seed):
    problem, images, labels = posed(update, kind, seed=seed)
    found = create("recursive").run(problem)
    assert psnr(found.images, images) > 100
    assert found.labels.tolist() == labels.tolist()
    assert found.score < 2
    assert found.stopped == "converged"
    assert any("the noise floor is reached" in note for note in found.notes)


@pytest.mark.parametrize("seed", range(3))
def test_a_densely_connected_network_is_taken_apart_too(update, seed):
    problem, images, labels = posed(update, SmallDenseNet, seed=seed)
    found = create("recursive").run(problem)
    assert psnr(found.images, images) > 100
    assert found.labels.tolist() == labels.tolist()


def test_where_only_sums_over_windows_are_told_they_give_most_of_the_image(update):
    problem, images, _ = posed(update, SmallDenseNet, inner=12)
    peeling = LayerRecursion(problem.to(torch.float64))
    assert peeling.levels[0][0].node.name == "average"
    assert re.search("16 images and positions at between_1: at most 12", peeling.end)
    found = create("recursive").run(problem)
    assert psnr(found.images, images) > 25


@pytest.mark.parametrize("seed", range(3))
def test_two_images_of_four_positions_are_told_apart(update, seed):
    problem, images, labels = posed(update, batch=2, seed=seed)
    found = create("recursive").run(problem, seed=1)
    order = paired(found.images, images)
    assert psnr(found.images[order], images) > 80
    assert found.labels[order].tolist() == labels.tolist()
    assert found.score < 10


def test_a_single_sigmoid_output_is_attacked_as_well(update):
    labels = torch.tensor([[1.0], [0.0]])
    problem, images, _ = posed(update, batch=2, seed=4, labels=labels, loss="bce", outputs=1)
    found = create("recursive").run(problem)
    order = paired(found.images, images)
    assert psnr(found.images[order], images) > 80
    assert found.labels[order].tolist() == labels.tolist()


class Pooled(SmallResNet):
    def __init__(self):
        super().__init__(pooled=True)


def test_a_stem_that_keeps_the_largest_only_hides_little(update):
    problem, images, _ = posed(update, Pooled)
    found = create("recursive").run(problem)
    assert psnr(found.images, images) > 20
    assert any("down to stem_3" in note for note in found.notes)


def test_the_weights_after_one_step_tell_the_image_too(update):
    problem, images, _ = posed(update, update="weights", lr=1.0, seed=1)
    found = create("recursive").run(problem)
    assert psnr(found.images, images) > 50


@pytest.mark.parametrize(
    ("kind", "batch"), [(SmallResNet, 1), (SmallResNet, 2), (SmallDenseNet, 1), (Chain, 1)]
)
def test_inputs_of_all_layers_are_what_they_were(update, kind, batch):
    problem, images, _ = posed(update, kind, batch=batch)
    peeling = LayerRecursion(problem.to(torch.float64))
    lowest = peeling.levels[0][-1]
    if batch == 1:
        scales = torch.tensor([peeling.factor])
        order = torch.tensor([0])
    else:
        scales, _ = image_scales(peeling, lowest)
    expected: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for known in peeling.known:
            below, rectified = peeling.graph.below(known.node)
            value = below(images.double())
            expected[known.node.name] = value.relu() if rectified else value
    if batch > 1:
        at = lowest.values / scales.view(-1, 1, 1, 1)
        order = paired(at, expected[lowest.node.name])
    names = set(expected)
    assert {SmallResNet: "stem_2", SmallDenseNet: "first_0_relu", Chain: "relu"}[kind] in names
    for known in peeling.known:
        truth = expected[known.node.name]
        found = (known.values / scales.view(-1, *[1] * (truth.ndim - 1)))[order]
        assert float((found - truth).abs().max()) < 1e-4 * float(truth.abs().max())
        assert (known.on[order] == (truth > 0)).all()


@pytest.mark.parametrize("seed", range(3))
def test_layers_that_do_not_fit_those_above_them_are_left_out(update, seed, monkeypatch):
    problem, images, _ = posed(update, seed=seed)
    note = LayerRecursion._note

    def mistaken(self, node, values, error):
        if node.name.startswith("stem"):
            values = values.flip(1)
        note(self, node, values, error)

    monkeypatch.setattr(LayerRecursion, "_note", mistaken)
    found = create("recursive").run(problem)
    assert any("down to blocks_0" in note for note in found.notes)
    assert psnr(found.images, images) > 40


@pytest.mark.parametrize("sure", [6.0, 15.0], ids=["lost on the way", "lost from the start"])
def test_an_image_that_the_model_is_sure_of_is_hidden_alone(update, sure):
    model, images = made(SmallResNet, 0).eval(), smooth_images(2, 0)
    with torch.no_grad():
        features = model.pool(model.blocks(model.stem(images - 0.5))).flatten(1)
        towards = features[1] - features[0]
        row = sure * towards / towards.square().sum()
        model.head.weight.copy_(torch.stack([-row, row]))
        model.head.bias.copy_(torch.stack([row, -row]) @ features[0])
    recipe = TrainingRecipe(lr=1.0, batch_size=2, batch_norm="eval")
    seen = update(model, images, torch.tensor([0, 1]), recipe)
    found = create("recursive").run(
        build_problem(seen, ThreatModel(), model, image_shape=(1, 16, 16))
    )
    assert max(psnr(one[None], images[:1]) for one in found.images) > 40
    assert any("1 of 2 images hidden by noise" in note for note in found.notes)
    assert len(found.labels) == 2


def test_a_layer_all_of_whose_units_are_off_ends_it(update, monkeypatch):
    problem, _, _ = posed(update)
    ratios = LayerEstimate.on.fget
    monkeypatch.setattr(
        LayerEstimate, "on", property(lambda k: ratios(k) & (k.node.name != "blocks_1_relu"))
    )
    peeling = LayerRecursion(problem.to(torch.float64))
    names = {k.node.name for k in peeling.known}
    assert "blocks_1_relu" in names
    assert not {"blocks_0_relu_1", "blocks_0_relu", "stem_2"} & names
    assert peeling.end == "the gradient does not tell which units of blocks_0_relu_1 are on"


def known(ratios):
    return LayerEstimate(None, ratios, torch.ones_like(ratios))


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_outputs_part_where_noise_ends(seed):
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(20_000, generator=draw).double()
    frequent = torch.rand(2_000, generator=draw).double() * 4_000  # one in two units of the ratio
    assert known(torch.cat([noise, frequent])).threshold < 14
    assert known(torch.cat([noise.relu(), frequent])).threshold < 7
    tails = torch.tensor([-12.0, -8.0, 6.0, 9.0, 14.0]).double()
    rare = 1_000 + torch.rand(20_000, generator=draw).double() * 1e6
    assert 14 < known(torch.cat([noise, tails, rare])).threshold < 40
    assert 4 < known(rare).threshold < 40


def fit(peeling):
    """Return how far the lowest layer of one image is from those above."""
    return peeling.mismatch(peeling.levels[0][-1], torch.tensor([peeling.factor]).double())


def test_a_mistaken_unit_is_mended_by_what_the_layer_below_leaves_unexplained(update, monkeypatch):
    problem, images, _ = posed(update)
    mistaken = []

    def with_one_more(known):
        on = (known.ratios > known.threshold).contiguous()
        if known.node.name == "blocks_1_relu":
            nearest = torch.where(on, -torch.inf, known.ratios).argmax()
            mistaken.append(int(nearest))
            on.view(-1)[nearest] = True
        return on

    assert psnr(create("recursive").run(problem).images, images) > 100
    monkeypatch.setattr(LayerEstimate, "on", property(with_one_more))
    assert psnr(create("recursive").run(problem).images, images) > 100
    assert mistaken
    mended = LayerRecursion(problem.to(torch.float64))
    assert fit(mended) < 1e-4
    monkeypatch.setattr(layer_equations, "OUTLIER_RATIO", math.inf)
    left = LayerRecursion(problem.to(torch.float64))
    assert fit(left) > 1e-3


def test_more_images_and_positions_than_can_be_enumerated_are_told_apart(update, monkeypatch):
    monkeypatch.setattr(patterns_by_enumeration, "MAX_COLUMNS", 8)
    problem, images, _ = posed(update, batch=3)  # of four positions each
    found = create("recursive").run(problem)
    order = paired(found.images, images)
    assert psnr(found.images[order], images) > 60


def test_outputs_of_relus_are_not_negative_pooled_or_not():
    graph = LayerGraph(Pooled().eval(), smooth_images(1, 0))
    positive = {node.name for node in graph.nodes if graph.positive(node)}
    assert {"stem_2", "stem_3", "blocks_0_relu_1", "pool", "flatten"} <= positive
    assert not {"images", "x", "stem_0", "stem_1", "blocks_0_conv1", "head", "add"} & positive
    assert all(graph.positive(n) for n in graph.nodes if graph.rectifies(n))


def test_layers_are_parts_of_the_network():
    model = made(SmallResNet, 0).eval().double()
    images = smooth_images(2, 0).double()
    graph = LayerGraph(model, images)
    middle = next(n for n in graph.nodes if n.name == "blocks_0_relu_1")
    with torch.no_grad():
        below, rectified = graph.below(middle)
        assert rectified
        value = below(images).relu()
        (logits,) = graph.above(middle, [graph.result])(value)
        assert torch.equal(logits, model(images))
    inside = next(n for n in graph.nodes if n.name == "blocks_1_relu")
    assert graph.cuts(middle)
    assert not graph.cuts(inside)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 2)

    def forward(self, images):
        return self.head(images.flatten(1) if images.sum() > 0 else -images.flatten(1))


def test_a_network_that_cannot_be_traced_is_one_line():
    with pytest.raises(GraphError, match=r"its layers cannot be traced \(.*\)$"):
        LayerGraph(Branching(), torch.rand(1, 1, 16, 16))


def refused(problem, message):
    with pytest.raises(AttackError, match=message) as caught:
        create("recursive").run(problem)
    assert "\n" not in str(caught.value)


def test_what_it_cannot_take_apart_it_refuses_in_a_line(update):
    refused(posed(update, batch_norm="train", update="weights", batch=2)[0], "mixes the images")
    refused(
        posed(update, update="weights", batch=2, batch_size=1)[0],
        "several local steps are no single gradient",
    )
    clipped = ThreatModel(channel=Channel(clip=1.0))
    refused(posed(update, threat=clipped)[0], "clipping or an adaptive optimiser hides")
    adam = posed(update, update="weights", optimizer="adam")[0]
    refused(adam, "clipping or an adaptive optimiser hides")
    mask = {"head.weight": torch.zeros(2, 128, dtype=torch.bool)}
    refused(posed(update, threat=ThreatModel(channel=Channel(observed=mask)))[0], "are not told")
    refused(posed(update, outputs=5, batch=2)[0], "several images need a head with one or")
    refused(posed(update, batch=33)[0], "132 images and positions at .* cannot be told apart")


class Smooth(SmallResNet):
    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.relu = nn.SiLU()


def test_smooth_networks_are_left_to_others(update):
    problem = posed(update, Smooth)[0]
    refused(problem, "128 values an image are told, of 256 pixels: what passes blocks_2_relu_1")


def test_images_too_large_for_linear_equations_come_near_by_gradients(update, monkeypatch):
    problem, images, _ = posed(update, seed=1)
    exact = create("recursive").run(problem)
    monkeypatch.setattr(module, "MEMORY_BYTES", 1000)
    near = create("recursive").run(problem)
    assert psnr(exact.images, images) > 100
    assert psnr(near.images, images) > 30
    assert near.evaluations > exact.evaluations
    fewer = create("recursive", {"iterations": "2"}).run(problem)
    assert len(fewer.history) == 2 * module.GRADIENT_STEPS_PER_SOLVE + 1
    assert any("gradient steps" in note for note in near.notes)


def test_noise_beyond_its_switches_is_told_by_the_chi_square(update):
    problem, _, _ = posed(update)
    draw = torch.Generator().manual_seed(0)
    blurred = {
        n: g + 0.05 * g.std().item() * torch.randn(g.shape, generator=draw) if g.numel() > 1 else g
        for n, g in problem.gradient.items()
    }
    noisy = dataclasses.replace(problem, gradient=blurred)
    found = create("recursive").run(noisy)
    assert found.score > 2
    assert any("above the noise floor" in note for note in found.notes)


def test_one_seed_one_result_and_a_prior_of_public_images(update):
    problem, images, _ = posed(update)
    problem = dataclasses.replace(problem, prior=Prior(smooth_images(40, 9)))
    first, second = (create("recursive").run(problem, seed=2) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert psnr(first.images, images) > 100


def test_limits_and_options(update):
    problem, _, _ = posed(update)
    found = create("recursive").run(problem, limits=Limits(evaluations=1))
    assert found.stopped == "evaluations"
    assert found.evaluations == 1
    short = create("recursive", {"iterations": "2"}).run(problem)
    assert short.stopped == "iterations"
    assert len(short.history) == 2
    with pytest.raises(AttackOptionError, match=r"recursive.iterations = 0: must be > 0"):
        create("recursive", {"iterations": "0"})


def test_peeling_says_where_it_ends(update):
    problem, _, _ = posed(update)
    hidden = {n: g for n, g in problem.gradient.items() if n != "blocks.0.conv2.weight"}
    peeling = LayerRecursion(dataclasses.replace(problem, gradient=hidden).to(torch.float64))
    assert "nothing tells which units of blocks_0_relu are on" in peeling.end
    assert math.isfinite(peeling.factor)
    with pytest.raises(LayerRecursionError, match="gradient of its last layer is not told"):
        LayerRecursion(
            dataclasses.replace(problem, gradient={"head.weight": problem.gradient["head.weight"]})
        )
