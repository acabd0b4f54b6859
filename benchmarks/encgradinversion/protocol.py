"""One row measured: victim, gradient, attack, scores.

The paper's protocol: untrained weights; image i of a batch has label i, modulo the classes; the
labels are known; one float32 gradient of the mean loss. Their code passes the images one by one
through a network in training mode, so the ResNet18 normalises each by its own statistics.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adversary.attacks import create
from adversary.attacks.encgrad.attack import ENCODINGS
from adversary.problem.problem import Problem
from benchmarks import common
from benchmarks.encgradinversion import authors, memory
from benchmarks.encgradinversion.cells import METHODS, MODELS, Cell
from benchmarks.encgradinversion.selection import Selection

Row = dict[str, Any]
Progress = Callable[[float], None]
"""Told the share of a row that is done."""


@dataclass(frozen=True)
class Measured:
    """What came of one batch: figures, and the recovered images of an attack."""

    figures: Row
    truths: Tensor
    found: Tensor | None = None


Measurement = Callable[[Cell, Problem, Tensor, Progress], Measured]
"""From a row, the problem of one batch and its images to figures."""


def victim(cell: Cell, truths: Tensor) -> nn.Module:
    """Return the network of a row at its initial weights."""
    return normalised_alone(common.victim(MODELS[cell.model], truths, cell.outputs))


def normalised_alone(model: nn.Module) -> nn.Module:
    """Return a model whose batch normalisation takes each image's own statistics.

    As in training mode on batches of one, which is what the authors' code adds up.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            own = nn.InstanceNorm2d(module.num_features, eps=module.eps, affine=True)
            own.weight, own.bias = module.weight, module.bias
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, own)
    return model


def measure(
    cell: Cell, selection: Selection, attack: Measurement, progress: Progress
) -> tuple[Row, list[Measured]]:
    """Return a row, and what came of each of its batches.

    Parameters
    ----------
    cell : Cell
        Which row.
    selection : Selection
        Of which images.
    attack : callable
        One of :data:`MEASUREMENTS`, or the authors' code.
    progress : callable
        Told how far the row is.

    Raises
    ------
    PaperError
        If images or memory do not suffice; said before anything is attacked.
    """
    batches = [
        selection.images.take(selection.indices(cell.batch, number), cell.size)
        for number in range(cell.batches)
    ]
    model = victim(cell, batches[0])
    memory.check(model, batches[0][0], cell.batch)
    before_cpu, before = time.process_time(), time.perf_counter()
    with memory.Peak() as peak:
        found = list(_attacked(cell, model, batches, attack, progress))
    row: Row = asdict(cell) | _means([one.figures for one in found])
    row |= {
        "cpu_seconds": (time.process_time() - before_cpu) / cell.batches,
        "wall_seconds": (time.perf_counter() - before) / cell.batches,
        "peak_mib": peak.mib,
        "threads": torch.get_num_threads(),
        "distinct_labels": cell.batch <= cell.outputs,
    }
    return row, found


def _attacked(
    cell: Cell,
    model: nn.Module,
    batches: Sequence[Tensor],
    attack: Measurement,
    progress: Progress,
) -> Iterator[Measured]:
    for number, truths in enumerate(batches):
        posed = common.problem(model, truths)
        yield attack(cell, posed, truths, _part(progress, number, len(batches)))


def _part(progress: Progress, number: int, of: int) -> Progress:
    return lambda share: progress((number + share) / of)


def _encodings(cell: Cell, posed: Problem, truths: Tensor, progress: Progress) -> Measured:
    """Measure the mean squared error of the encodings, also relative to their variance."""
    targets = posed.targets(posed.threat.labels)  # type: ignore[arg-type]
    before = time.process_time()
    found = ENCODINGS[METHODS[cell.method].attack](posed, targets, 0).values
    seconds = time.process_time() - before
    with torch.no_grad():
        true = posed.to(torch.float64).encode(truths.double())
    error = float((found - true).square().mean())
    spread = float(true.var(0, correction=0).mean())
    relative = error / spread if len(true) > 1 else None
    return Measured({"mse": error, "relative_mse": relative, "seconds": seconds}, truths)


def _images(cell: Cell, posed: Problem, truths: Tensor, progress: Progress) -> Measured:
    """Measure an attack's images, and its processor time."""
    attack = create(METHODS[cell.method].attack, cell.attack_options)
    before = time.process_time()
    found = attack.run(posed, seed=cell.seed, progress=lambda name, share: progress(share))
    seconds = time.process_time() - before
    figures = common.scores(found.images, truths)
    return Measured({**figures, "seconds": seconds}, truths, found.images)


MEASUREMENTS: dict[str, Measurement] = {"encodings": _encodings, "images": _images}
"""What is measured of a batch, by name."""


def authors_code(clone: Path, timeout: float) -> Measurement:
    """Return the measurement of the authors' own code, of a clone of theirs."""

    def images(cell: Cell, posed: Problem, truths: Tensor, progress: Progress) -> Measured:
        return Measured(authors.run(clone, truths, posed.model, timeout), truths)

    return images


def _means(rows: Sequence[Row]) -> Row:
    """Return the means over batches, and the standard deviation of SSIM and PSNR over them."""
    found: Row = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = statistics.fmean(values) if values else None
    for name in ("ssim", "psnr"):
        if name in found and len(rows) > 1:
            found[f"{name}_std"] = statistics.stdev(row[name] for row in rows)
    return found
