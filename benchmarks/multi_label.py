"""What one update of a multi-label head tells: labels, encodings and images.

Run as ``python -m benchmarks multi_label --data nih.npz --batch 4 8``. ChestX-ray14 at 32x32 with
14 sigmoid outputs and binary cross-entropy, LeNet and the GELU ConvNet at their initial weights,
one float32 gradient of each of several batches, labels not given. ``entries`` is the share of
label entries that are right once labels and images are matched, ``rows`` that of images with
every entry right; ``entries_by_counts`` and ``rows_by_counts`` are the same where only how often
each label occurs is used. The last line is JSON {"rows": [...], "seconds"}.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from adversary import Observation, Prior, ThreatModel, TrainingRecipe, labels
from adversary.attacks import create
from adversary.attacks.encgrad import ENCODINGS
from adversary.metrics import match, psnr, ssim
from adversary.problem import Problem, pose
from benchmarks import common

PUBLIC = 20


def nih(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, size, size) in [0, 1] and labels (N, 14), in one random order."""
    try:
        with np.load(path) as file:
            found, count = torch.from_numpy(file["labels"]).float(), len(file["images"])
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"--data {path}: no images with labels there ({error})") from None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(common.SEED))
    return common.images(path, count, size)[order], found[order]


def observed(name: str, truths: Tensor, truth_labels: Tensor, public: Tensor) -> Problem:
    """Return what the server has of one batch; the labels are not granted."""
    model = common.victim(name, truths, outputs=truth_labels.shape[1])
    loss = F.binary_cross_entropy_with_logits(model(truths), truth_labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    observation = Observation(
        round=1,
        client="client",
        sent={name: value.clone() for name, value in model.state_dict().items()},
        returned=dict(zip((n for n, _ in model.named_parameters()), gradient, strict=True)),
        num_examples=len(truths),
        recipe=TrainingRecipe(
            lr=1.0, batch_size=len(truths), loss="bce", update="gradient", batch_norm="eval"
        ),
    )
    shape = (truths.shape[1], truths.shape[2], truths.shape[3])
    return pose(observation, ThreatModel(), model, image_shape=shape, prior=Prior(public))


def agreement(found: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return the shares of right entries and of right rows, rows matched at the fewest errors."""
    errors = torch.cdist(found.double(), truth.double(), p=1)
    rows, columns = linear_sum_assignment(errors.numpy())
    wrong = errors[rows, columns]
    return 1 - float(wrong.sum()) / truth.numel(), float((wrong == 0).double().mean())


def one(name: str, truths: Tensor, truth_labels: Tensor, public: Tensor) -> dict[str, float]:
    """Return the figures of one batch."""
    problem = observed(name, truths, truth_labels, public)
    began = time.monotonic()
    found = labels.recover(problem)
    seconds = time.monotonic() - began
    encodings = ENCODINGS["consistent"](problem, problem.targets(found), 0)
    told = found.sum(0)
    plain = (torch.arange(len(truths))[:, None] < told).float()
    image = create("encgrad").run(problem, seed=0).images
    order = match(image, truths)
    image = image[[i for i in order if i is not None]]
    entries, rows = agreement(found, truth_labels)
    plain_entries, plain_rows = agreement(plain, truth_labels)
    return {
        "rank": encodings.rank,
        "residual": encodings.residual,
        "counts": float((told == truth_labels.sum(0)).double().mean()),
        "entries": entries,
        "rows": rows,
        "entries_by_counts": plain_entries,
        "rows_by_counts": plain_rows,
        "label_seconds": seconds,
        "psnr": float(psnr(image, truths).mean()),
        "ssim": float(ssim(image, truths).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="npz of images and labels")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--batches", type=int, default=6, help="batches of each size")
    parser.add_argument("--models", nargs="+", default=["lenet", "convnet"])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON")
    given = parser.parse_args()
    common.threads()
    images, truth = nih(given.data, given.size)
    public, images, truth = images[:PUBLIC], images[PUBLIC:], truth[PUBLIC:]
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    for name in given.models:
        for batch in given.batch:
            chosen = [slice(i * batch, (i + 1) * batch) for i in range(given.batches)]
            each = [one(name, images[at], truth[at], public) for at in chosen]
            means = {key: float(np.mean([figures[key] for figures in each])) for key in each[0]}
            rows.append({"model": name, "batch": batch, "batches": given.batches, **means})
            if not given.json:
                print(
                    f"{name}, B = {batch}: " + ", ".join(f"{k} {v:.3g}" for k, v in means.items())
                )
    common.json_line({"rows": rows, "seconds": time.monotonic() - began})


if __name__ == "__main__":
    main()
