"""Members are found through each defence that the attacker knows of, and nobody else is."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from adversary.identification import Gallery, figures, identify
from adversary.observation.channel import Channel
from adversary.observation.mechanisms import Quantised
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.priors.public import Prior
from fl_sim.defences.augmentation import Augmentation
from fl_sim.defences.mixup import MixUp
from fl_sim.models import create
from fl_sim.training.local_training import train

MEMBERS = 16
RECIPE = TrainingRecipe(lr=0.05, batch_size=8)


def draw(count, seed):
    noise = torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    images = torch.sigmoid(2 * F.avg_pool2d(noise, 3, 1, 1) + noise / 2)
    return images, (images.mean((1, 2, 3)) > 0.5).long()


def network():
    return create("convnet", channels=1, image_size=12, outputs=2, activation="gelu", seed=3)


def update(images, labels, recipe=RECIPE):
    model = network()
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    batches = list(torch.arange(len(images)).split(recipe.batch_size))
    train(model, images, labels, recipe, batches, device="cpu")
    returned = {n: v.clone() for n, v in model.state_dict().items()}
    return Observation(
        round=1, client="client-00", sent=sent, returned=returned, num_examples=len(images),
        recipe=recipe,
    )  # fmt: skip


def moved(seen):
    return {n: seen.returned[n] - seen.sent[n] for n in dict(network().named_parameters())}


def with_changes(seen, changes):
    returned = seen.returned | {n: seen.sent[n] + change for n, change in changes.items()}
    return dataclasses.replace(seen, returned=returned)


def noisy(images, labels):
    seen, draws = update(images, labels), torch.Generator().manual_seed(5)
    scale = {n: 0.02 * float(v.std()) for n, v in moved(seen).items()}
    changes = {
        n: v + scale[n] * torch.randn(v.shape, generator=draws) for n, v in moved(seen).items()
    }
    return with_changes(seen, changes), Channel(noise=scale)


def clipped_whole(images, labels):
    seen = update(images, labels)
    norm = math.sqrt(sum(float(v.square().sum()) for v in moved(seen).values()))
    changes = {n: v / 2 for n, v in moved(seen).items()}
    return with_changes(seen, changes), Channel(clip=norm / 2)


def clipped_by_example(images, labels):
    recipe = dataclasses.replace(RECIPE, batch_size=MEMBERS)
    model, clip = network(), 0.3
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        own = dict(zip(total, torch.autograd.grad(loss, list(model.parameters())), strict=True))
        norm = math.sqrt(sum(float(g.square().sum()) for g in own.values()))
        for name, gradient in own.items():
            total[name] += gradient * min(1.0, clip / norm)
    changes = {n: -recipe.lr / MEMBERS * v for n, v in total.items()}
    return with_changes(update(images, labels, recipe), changes), Channel(example_clip=clip)


def masked(images, labels):
    seen = update(images, labels)
    largest = {
        n: v.abs() >= v.abs().flatten().kthvalue(max(1, int(0.7 * v.numel()))).values
        for n, v in moved(seen).items()
    }
    changes = {n: v * largest[n] for n, v in moved(seen).items()}
    return with_changes(seen, changes), Channel(observed=largest)


def quantised(images, labels):
    seen = update(images, labels)
    step = {n: 2 * float(v.abs().max()) / 255 for n, v in moved(seen).items()}
    changes = {n: (v / step[n]).round() * step[n] for n, v in moved(seen).items()}
    return with_changes(seen, changes), Channel(noise={n: s / 12**0.5 for n, s in step.items()})


def in_bits(images, labels, bits):
    seen, mechanism = update(images, labels), Quantised(bits=bits)
    draws = torch.Generator().manual_seed(1)
    left = mechanism.release(seen.sent, seen.returned, generator=draws)
    seen = dataclasses.replace(seen, returned=left)
    return seen, mechanism.channel(seen)


def blended(images, labels):
    model, defence = network(), MixUp()
    batches = list(torch.arange(len(images)).split(RECIPE.batch_size))
    draws = torch.Generator().manual_seed(5)
    defence.train(model, images, labels, RECIPE, batches, generator=draws)
    seen = update(images, labels)
    seen = dataclasses.replace(seen, returned=dict(model.state_dict()))
    return seen, defence.channel(seen)


def augmented(images, labels):
    defence = Augmentation(policy="flip+contrast")
    seen = update(defence.inputs(images, generator=torch.Generator().manual_seed(5)), labels)
    return seen, defence.channel(seen)


def without_head(images, labels):
    seen = update(images, labels)
    head = list(dict(network().named_parameters()))[-2:]
    kept = {n: v for n, v in seen.returned.items() if n not in head}
    return dataclasses.replace(seen, returned=kept), Channel()


def aggregate(images, labels):
    half = MEMBERS // 2
    one, two = (update(images[part], labels[part]) for part in (slice(half), slice(half, None)))
    mean = {n: (v + two.returned[n]) / 2 for n, v in one.returned.items()}
    return dataclasses.replace(
        one, client="aggregate", view="aggregate", returned=mean, num_examples=MEMBERS,
        members={"client-00": half, "client-01": half},
    ), Channel()  # fmt: skip


CHANNELS = {
    "noise": noisy,
    "clipping of the whole": clipped_whole,
    "clipping by example": clipped_by_example,
    "mask": masked,
    "levels": quantised,
    "seven levels": partial(in_bits, bits=3),
    "signs": partial(in_bits, bits=1),
    "MixUp": blended,
    "augmentation": augmented,
    "partial sharing": without_head,
    "secure aggregation": aggregate,
}


def scores(name, trained_on):
    """Return scores of a gallery in which the first half was in it if it is trained on."""
    images, labels = draw(3 * MEMBERS, 7)
    inside = slice(0, MEMBERS) if trained_on else slice(2 * MEMBERS, None)
    seen, channel = CHANNELS[name](images[inside], labels[inside])
    asked = 2 * MEMBERS
    gallery = Gallery(
        images=images[:asked], labels=labels[:asked], names=tuple(f"x{i}" for i in range(asked))
    )
    return identify(
        *(seen, ThreatModel(channel=channel), network(), gallery, Prior(*draw(120, 8))), seed=1
    )


@pytest.mark.parametrize("name", CHANNELS)
def test_members_are_found(name):
    found = scores(name, trained_on=True)
    assert figures.auc(found.scores.values[:MEMBERS], found.scores.values[MEMBERS:]) > 0.9


@pytest.mark.parametrize("name", CHANNELS)
def test_nobody_is_found_in_an_update_of_others(name):
    found = scores(name, trained_on=False)
    assert stats.kstest(found.p_values.numpy(), "uniform").pvalue > 1e-3
    assert not found.named.any()
