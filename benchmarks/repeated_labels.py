"""Encodings of a batch in which labels repeat, at initial weights and after some training.

Run as ``python -m benchmarks repeated_labels --data cifar.npz``. LeNet with 100 outputs, 64 images
of which 15 repeat a label; errors are mean squared, relative to the variance of the encodings.
``floor`` is the error of giving images of one label their true mean. The last line is JSON
{"rows": [{steps, distinct, rank, oha, gra, consistent, floor}]}.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.attacks.encgrad import ENCODINGS
from adversary.problem import pose
from benchmarks import common

BATCH, REPEATS, TRAIN_BATCH, LR = 64, 15, 32, 0.1


def trained(truths: Tensor, others: Tensor, steps: int) -> nn.Module:
    """Return LeNet after some steps of SGD on other images with random labels."""
    model = common.victim("lenet", truths)
    draw = torch.Generator().manual_seed(common.SEED)
    labels = torch.randint(common.OUTPUTS, (len(others),), generator=draw)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR)
    for _ in range(steps):
        index = torch.randint(len(others), (TRAIN_BATCH,), generator=draw)
        optimiser.zero_grad()
        F.cross_entropy(model(others[index]), labels[index]).backward()
        optimiser.step()
    return model


def row(truths: Tensor, others: Tensor, steps: int) -> dict[str, Any]:
    model = trained(truths, others, steps)
    distinct = BATCH - REPEATS
    draw = torch.Generator().manual_seed(common.SEED)
    again = torch.randint(distinct, (REPEATS,), generator=draw)
    labels = torch.cat([torch.arange(distinct), again])
    gradient = torch.autograd.grad(F.cross_entropy(model(truths), labels), list(model.parameters()))
    observation = Observation(
        round=1,
        client="client",
        sent={name: value.clone() for name, value in model.state_dict().items()},
        returned=dict(zip((n for n, _ in model.named_parameters()), gradient, strict=True)),
        num_examples=BATCH,
        recipe=TrainingRecipe(lr=1.0, batch_size=BATCH, update="gradient", batch_norm="eval"),
    )
    shape = (truths.shape[1], truths.shape[2], truths.shape[3])
    posed = pose(observation, ThreatModel(labels=labels), model, image_shape=shape)
    with torch.no_grad():
        true = posed.to(torch.float64).encode(truths.double())
    variance = true.var(0, correction=0).mean()
    found = {name: method(posed, posed.targets(labels), 0) for name, method in ENCODINGS.items()}
    means = torch.stack([true[labels == label].mean(0) for label in labels])
    values = {name: encodings.values for name, encodings in found.items()} | {"floor": means}
    errors = {n: float((v - true).square().mean() / variance) for n, v in values.items()}
    return {"steps": steps, "distinct": distinct, "rank": found["consistent"].rank, **errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="npz of images")
    parser.add_argument("--steps", type=common.counts, default=[0, 60, 300])
    given = parser.parse_args()
    common.threads()
    everything = common.images(given.data, 1024)
    rows = []
    for steps in given.steps:
        rows.append(row(everything[:BATCH], everything[200:], steps))
        print(", ".join(f"{key} {value:.3g}" for key, value in rows[-1].items()), flush=True)
    common.json_line({"rows": rows})


if __name__ == "__main__":
    main()
