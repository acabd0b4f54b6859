"""What the first screen of a report says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adversary.report.rows import Row, closeness, mean
from adversary.report.verdict import CLOSE_PSNR, COPY_PSNR, Level, worst


@dataclass(frozen=True)
class Summary:
    """The verdict of a run and its figures, over all reconstructions.

    Parameters
    ----------
    level : Level
        Of the reconstruction that gives away the most, ``worst``.
    images, clients, rounds : int
        Reconstructions, and the clients and rounds that were attacked; ``clients_seen`` and
        ``rounds_seen`` count those that gave a patient away.
    reidentified, chance : float or None
        Share of reconstructions that point to the right patient, and what guessing reaches
        among the ``candidates``.
    bound : float or None
        The highest PSNR in dB that any attacker is expected to reach on any of the images.
    mean_psnr, mean_rdlv : float or None
        Over all reconstructions.
    has_truth : bool
        Whether the true images were there to compare with.
    failed : int
        Attacks that failed.
    """

    level: Level
    worst: Row
    images: int
    clients_seen: int
    clients: int
    rounds_seen: int
    rounds: int
    reidentified: float | None
    chance: float | None
    candidates: int | None
    bound: float | None
    mean_psnr: float | None
    mean_rdlv: float | None
    has_truth: bool
    failed: int

    @property
    def bound_meaning(self) -> str:
        """What the bound says of the update, whatever the attack."""
        if self.bound is None:
            return ""
        if self.bound >= COPY_PSNR:
            return "the updates hold a copy of the X-ray; only the attack limits what is seen"
        if self.bound >= CLOSE_PSNR:
            return "a strong attacker can come close to the X-ray"
        return "what the updates hold allows a blur at best"


def summarise(rows: list[Row], info: Mapping[str, Any]) -> Summary:
    """Return the summary of a run's rows, those of masked updates left out."""
    done = [row for row in rows if row["status"] == "ok"]
    seen = [row for row in done if row["level"] >= Level.IDENTIFIABLE]
    candidates = info.get("candidates")
    candidates = candidates if isinstance(candidates, int) and candidates > 0 else None
    bounds = [row["bound_psnr"] for row in done if row["bound_psnr"] is not None]
    return Summary(
        level=worst(row["level"] for row in done),
        worst=max(done, key=closeness, default={}),
        images=len(done),
        clients_seen=len({row["client"] for row in seen}),
        clients=len({row["client"] for row in rows}),
        rounds_seen=len({row["round"] for row in seen}),
        rounds=len({row["round"] for row in rows}),
        reidentified=mean(row["reidentified"] for row in done),
        chance=1 / candidates if candidates else None,
        candidates=candidates,
        bound=max((bound for bound in bounds if math.isfinite(bound)), default=None),
        mean_psnr=mean(row["psnr"] for row in done),
        mean_rdlv=mean(row["rdlv"] for row in done),
        has_truth=any(row["truth"] is not None for row in done),
        failed=sum(row["status"] != "ok" for row in rows),
    )
