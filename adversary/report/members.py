"""What the members of an ensemble cost, and how often each gave the images."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import cast

import pandas as pd


@dataclass(frozen=True)
class Member:
    """One attack of an ensemble, over all updates.

    Parameters
    ----------
    attack, member : str
        The ensemble, and the attack in it.
    ran, failed, won : int
        Updates on which it ran, on which it gave no score, and of which its images were taken.
    seconds : float
        Wall time over all of them.
    share : float
        Of the ensemble's time.
    """

    attack: str
    member: str
    ran: int
    failed: int
    won: int
    seconds: float
    share: float


_UPDATE = ["round", "client", "attack"]


def shares(members: pd.DataFrame, leakage: pd.DataFrame) -> list[Member]:
    """Return the members of each ensemble in the order in which they first ran.

    Parameters
    ----------
    members, leakage : DataFrame
        members.csv and leakage.csv.
    """
    won = leakage.dropna(subset=["member"]).drop_duplicates([*_UPDATE, "member"])
    wins = Counter(zip(won["attack"], won["member"], strict=True))
    total: defaultdict[str, float] = defaultdict(float)
    for attack, seconds in zip(members["attack"], members["seconds"], strict=True):
        total[attack] += seconds
    found = []
    for whose, rows in members.groupby(["attack", "member"], sort=False):
        attack, member = map(str, cast(tuple[str, str], whose))
        scores = rows.groupby(["round", "client"])["score"].count()
        seconds = float(rows["seconds"].sum())
        found.append(
            Member(
                attack=attack,
                member=member,
                ran=len(scores),
                failed=int((scores == 0).sum()),
                won=wins[attack, member],
                seconds=seconds,
                share=seconds / total[attack] if total[attack] > 0 else 0.0,
            )
        )
    return sorted(found, key=lambda one: one.attack)
