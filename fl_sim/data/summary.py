"""What was read of a data set, in lines by which a person sees a misreading."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from fl_sim.data.sources.base import DatasetSource, Part

_NAMED = 20  # labels named in a line


def in_lines(source: DatasetSource, notes: Sequence[str]) -> list[str]:
    """Return the images and labels of a data set, its patients, and what its reader notes."""
    counts = labels_in_words(source.labels, source.label_names)
    lines = [f"read {len(source)} images of '{source.name}': {counts}", *notes]
    patients = set(source.patients)
    if not any(note.startswith("patients: ") for note in notes):
        lines.append(f"patients: {len(patients)}")
    return lines


def splits_in_words(source: DatasetSource, parts: dict[Part, np.ndarray]) -> str:
    """Return in a line how many images of which labels each part has, and how many none takes."""
    shares = [
        f"{len(rows)} {part} ({labels_in_words(source.labels[rows], source.label_names)})"
        if len(rows)
        else f"0 {part}"
        for part, rows in parts.items()
    ]
    unused = len(source) - sum(map(len, parts.values()))
    return f"splits: {', '.join(shares)}" + (f"; {unused} are not used" if unused else "")


def labels_in_words(labels: Tensor, names: Sequence[str]) -> str:
    """Return how many images have each label, of labels (N,) or (N, L)."""
    several = labels.ndim == 2
    counts = labels.sum(0).long() if several else labels.bincount(minlength=len(names))
    words = [f"{name} {count}" for name, count in zip(names, counts.tolist(), strict=True)]
    if len(words) > _NAMED:
        words = [*words[:_NAMED], f"and {len(words) - _NAMED} more labels"]
    if several:
        words.append(f"none of them {int((labels.sum(1) == 0).sum())}")
    return ", ".join(words)
