"""What an attack hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """One line of an attack's history."""

    restart: int
    iteration: int
    score: float
    seconds: float


class Frame(NamedTuple):
    """One picture of the process: a restart's images on their way, (B, C, H, W) in [0, 1]."""

    restart: int
    iteration: int
    score: float
    images: Tensor


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """An attack's best guess, chosen by its own score among its restarts.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W) in [0, 1], on the CPU.
    labels : Tensor
        (B,) class indices, or (B, C) multi-hot for sigmoid heads; recovered or granted.
    score : float
        The attacker's own objective at ``images``, lower is better; never a true error.
    history : list of Step
        Score by iteration for every restart that ran.
    frames : list of Frame
        Pictures of the process, where they were asked for; the last of each restart is its result.
    notes : tuple of str
        What the attacker learnt about its own chances, in words, e.g. how many encodings the
        update determines.
    seconds : float
        Wall time.
    evaluations : int
        Gradient-matching evaluations, over all restarts.
    stopped : str
        Why it ended: "iterations", "converged", "seconds" or "evaluations".
    """

    images: Tensor
    labels: Tensor
    score: float
    seconds: float
    evaluations: int
    stopped: str = "iterations"
    history: list[Step] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    notes: tuple[str, ...] = ()
