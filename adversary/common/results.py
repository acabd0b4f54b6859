"""Results of attacks: reconstructions, their history, pictures, failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

from adversary.common.convert import Value

Certificate = Literal["proved", "open", "nothing"]
"""What an attacker can state of its reconstruction without the truth.

``proved``: the update is explained to its noise, by nothing else that was found, and tells clearly
more than the prior. ``nothing``: the posterior is the prior, so the update tells no attacker more.
``open``: anything less; it says neither that the images are right nor that they are safe.
"""


class IterationRecord(NamedTuple):
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
class Trial:
    """What one member of an ensemble came to: its cost, and its score or why it has none.

    Parameters
    ----------
    member : str
        Name of the attack.
    seconds : float
        Wall time.
    score : float or None
        Common score of its reconstruction, lower is better; None where it gave none.
    note : str
        What became of it, in words.
    """

    member: str
    seconds: float
    score: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An attack's best guess, and what it can say of it without the truth.

    Parameters
    ----------
    images : Tensor
        (B, C, H, W).
    labels : Tensor
        (B,) class indices, or (B, C) multi-hot for sigmoid heads; recovered or granted.
    score : float
        The attacker's own objective at ``images``, lower is better; never a true error.
    notes : tuple of str
        What the attacker learnt about its own chances, in words, e.g. how many encodings the
        update determines.
    expected_psnr : tuple of float or None
        PSNR in dB that the attacker expects of each image, from its posterior covariance.
    certificate : {"proved", "open", "nothing"} or None
        See :data:`Certificate`; None of attacks that state none.
    member : str
        Of an ensemble, the attack that gave the images.
    trials : tuple of Trial
        Of an ensemble, its members in the order in which they ran.
    flags : tuple of str
        What to look at before the result is believed: keys of :data:`adversary.report.flags.FLAGS`.
    """

    images: Tensor
    labels: Tensor
    score: float
    notes: tuple[str, ...] = ()
    expected_psnr: tuple[float, ...] | None = None
    certificate: Certificate | None = None
    member: str = ""
    trials: tuple[Trial, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Solution):
    """The :class:`Solution` that a run of an attack ended with, and what the run took.

    ``images`` are in [0, 1], and they and ``labels`` on the CPU.

    Parameters
    ----------
    seconds : float
        Wall time.
    evaluations : int
        Gradient-matching evaluations, over all restarts.
    stopped : str
        Why it ended: "iterations", "converged", "seconds" or "evaluations".
    history : list of IterationRecord
        Score by iteration for every restart that ran.
    frames : list of Frame
        Pictures of the process, where they were asked for; the last of each restart is its result.
    options : mapping of int to mapping
        What the attack was told of each restart that there are pictures of, by name.
    """

    seconds: float
    evaluations: int
    stopped: str = "iterations"
    history: list[IterationRecord] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    options: Mapping[int, Mapping[str, Value]] = field(default_factory=dict)

    def results(self) -> dict[int, Frame]:
        """Return what each trial came to, of those that there are pictures of."""
        return {frame.restart: frame for frame in self.frames}


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What came of one attack on one update: a reconstruction, or why there is none.

    ``oracles`` says what the attacker was told beyond what a server has.
    """

    attack: str
    seconds: float
    reconstruction: Reconstruction | None = None
    failure: str | None = None
    oracles: tuple[str, ...] = ()


Files = dict[str, bytes]
"""What files are to hold, by name."""


@dataclass(frozen=True)
class Pictures:
    """Of one attack on one update, ready to be written.

    Parameters
    ----------
    images : dict of str to bytes
        truth-00.png, reconstruction-00.png and so on, bound-00.png and so on, grid.png.
    process : dict of str to bytes
        How they came about, trial by trial: trial-00-image-00.png, trial-00-image-00.csv,
        trial-00-image-00-result.png and so on.
    """

    images: Files
    process: Files
