"""The limits that a hospital sets, and what follows from figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from adversary.observation.mechanisms import DefenceError
from strategies.mods.leakage_guard.assessment import Assessment

Decision = Literal["send", "blur", "refuse"]

LIMITS = ("psnr", "expected_psnr", "rdlv", "named")


@dataclass(frozen=True, kw_only=True)
class GuardPolicy:
    """What an update may show before it is held back; None where a figure does not matter.

    All are lower limits of what a server gets: an update below them is not shown to be safe.

    Parameters
    ----------
    max_psnr : float, optional
        PSNR in dB of the reconstruction that is nearest to its X-ray. All chest X-rays are alike:
        the mean of a few reaches some 15 to 20 dB beside any other.
    max_expected_psnr : float, optional
        PSNR in dB that the attacker expects of its best picture, without the truth.
    max_rdlv : float, optional
        Relative data leakage value of the worst image, < 1: 0 is what the mean X-ray shows.
    max_named : float, optional
        Share of the own X-rays, in [0, 1], that identification names at a false discovery rate of
        5 %. It needs at least 50 X-rays that were never trained on.
    action : {"refuse", "blur"}
        What becomes of an update beyond a limit. ``blur`` tries ``noise`` from the least on, each
        attacked again by an attacker that knows of it, and refuses where none is enough.
    noise : tuple of float
        Scales of :class:`~adversary.observation.mechanisms.RelativeNoise`, rising.
    on_failure : {"refuse", "send"}
        What becomes of an update that could not be assessed: the attack failed or was cut off by
        the time, a figure with a limit is missing, or the disk is full. "refuse" fails closed.
    seconds : float
        For each attack, and for each identification, > 0.
    """

    max_psnr: float | None = None
    max_expected_psnr: float | None = None
    max_rdlv: float | None = None
    max_named: float | None = None
    action: Literal["refuse", "blur"] = "refuse"
    noise: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    on_failure: Literal["refuse", "send"] = "refuse"
    seconds: float = 60.0

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0.0, *self.noise), self.noise, strict=False))
        for name, valid, allowed in (
            ("action", self.action in ("refuse", "blur"), "one of refuse, blur"),
            ("on_failure", self.on_failure in ("refuse", "send"), "one of refuse, send"),
            ("noise", bool(self.noise) and rising, "numbers > 0 that rise"),
            ("seconds", 0 < self.seconds < math.inf, "a number > 0"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {getattr(self, name)!r}: must be {allowed}")
        if not self.limits:
            names = ", ".join(f"max_{name}" for name in LIMITS)
            raise DefenceError(f"a guard without a limit lets all pass; set one of {names}")

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by the name of their figure."""
        found = {name: getattr(self, f"max_{name}") for name in LIMITS}
        return {name: limit for name, limit in found.items() if limit is not None}

    def judged(self, assessment: Assessment) -> tuple[Decision, str]:
        """Return what becomes of an update, and why, in a line for the hospital."""
        figures = {name: getattr(assessment, name) for name in self.limits}
        beyond = [
            f"{name} {figure:.3g} > {self.limits[name]:.3g}"
            for name, figure in figures.items()
            if figure is not None and figure > self.limits[name]
        ]
        if beyond:
            return self.action, ", ".join(beyond)
        missing = [f"no {name}" for name, figure in figures.items() if figure is None]
        if missing or not assessment.complete:
            return self.on_failure, "; ".join([*missing, *assessment.faults])
        return "send", "within the limits"
