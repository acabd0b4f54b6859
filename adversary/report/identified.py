"""Who can be named, as identification.csv has it: by hospital and round, and all rounds joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import scipy

from adversary.identification import figures
from adversary.report.leakage_rows import SERVER_INCLUDED, Row, last_accounts, mean, records
from adversary.report.templating import epsilon
from adversary.scoring.identification_scores import ALARMS
from adversary.scoring.verdict import NAMED_BY_CHANCE
from adversary.storage.identification_files import Account
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Named:
    """A line of identification.csv, with what it means.

    Parameters
    ----------
    row : dict
        By column, None where a value is missing; a row of all rounds has no ``round``.
    hits : int
        Patients named at one false alarm in a hundred, of ``row["members"]``.
    low, high : float
        Exact 95 % interval of that share.
    chance, auc_chance : float
        Probability of as many hits or more, and of such an AUC or more, if scores say nothing.
    """

    row: Row
    hits: int
    low: float
    high: float
    chance: float
    auc_chance: float = 1.0

    @property
    def rounds(self) -> str:
        """Which rounds it is of."""
        return "all rounds joined" if self.row["round"] is None else f"round {self.row['round']}"

    @property
    def words(self) -> str:
        """It in a clause."""
        client = self.row["client"]
        whose = "the hospitals together" if client == "aggregate" else client
        return (
            f"{self.hits} of {self.row['members']} patients of {whose} at one false alarm in a "
            f"hundred ({self.rounds})"
        )

    @property
    def refutes(self) -> bool:
        """Whether it proves more epsilon than the privacy account claims."""
        claimed, proven = self.row.get("epsilon"), self.row.get("epsilon_lower")
        return claimed is not None and proven is not None and proven > claimed

    @property
    def refutation(self) -> str:
        """What it proves of the account, in a sentence."""
        return (
            f"Who was named in the updates of {self.row['client']} ({self.rounds}) proves an ε of "
            f"at least {epsilon(self.row['epsilon_lower'])}, and the account claims "
            f"{epsilon(self.row['epsilon'])}."
        )


@dataclass(frozen=True, kw_only=True)
class Naming:
    """What identification came to over the updates of one run or several.

    Parameters
    ----------
    lines : tuple of Named
        Of each run, by client, joined rounds first.
    chance : float
        Probability that as many are named by chance in any of them; 1 without any.
    strongest : Named, optional
        The line whose share is largest for sure; None where nobody is named beyond chance.
    """

    lines: tuple[Named, ...] = ()
    chance: float = 1.0
    strongest: Named | None = None

    @property
    def by_client(self) -> dict[str, Named]:
        """The strongest line of each client that names its patients beyond chance by itself.

        The lines of a client count together (Bonferroni), and so do the clients.
        """
        sure = [one for one in self.lines if one.chance * len(self.lines) < NAMED_BY_CHANCE]
        clients = dict.fromkeys(one.row["client"] for one in sure)
        return {
            client: _strongest([one for one in sure if one.row["client"] == client])
            for client in clients
        }

    @property
    def updates(self) -> list[Named]:
        """The lines of single updates."""
        return [one for one in self.lines if one.row["round"] is not None]

    @property
    def refuting(self) -> Named | None:
        """The line that proves most beyond the privacy account; None where none does."""
        found = [one for one in self.lines if one.refutes]
        return max(found, key=lambda one: one.row["epsilon_lower"], default=None)

    @property
    def auc(self) -> float | None:
        """Mean area under the ROC curve, members against others, over the updates."""
        return mean(one.row["auc"] for one in self.updates)

    @property
    def tpr_1(self) -> float | None:
        """Share of members named at one false alarm in a hundred, over the updates."""
        return _share([(one.hits, one.row["members"]) for one in self.updates])

    @property
    def named(self) -> float | None:
        """Share of members named at a false discovery rate of 5 %, over the updates."""
        return _share([
            (one.row["named"] * one.row["members"], one.row["members"])
            for one in self.updates
            if one.row["named"] is not None
        ])  # fmt: skip


def naming(runs: Iterable[pd.DataFrame]) -> Naming:
    """Return what the tables identification.csv of one run or several say together.

    Each line may be right by chance, so probabilities of the lines of a client count times the
    lines of its run (Bonferroni); those of clients are independent, and are taken together by
    Fisher's method or by the smallest of them, whichever is less, times two.
    """
    every = [lines(frame) for frame in runs]
    by_client: dict[tuple[int, str], list[float]] = {}
    for number, run in enumerate(every):
        for one in run:
            by_client.setdefault((number, one.row["client"]), []).append(one.chance)
    each = [min(1.0, len(own) * min(own)) for own in by_client.values()]
    if not each:
        return Naming()
    together = float(scipy.stats.combine_pvalues(each, method="fisher").pvalue)
    chance = min(1.0, 2 * min(together, len(each) * min(each)))
    found = tuple(one for run in every for one in run)
    beyond = chance < NAMED_BY_CHANCE
    return Naming(lines=found, chance=chance, strongest=_strongest(found) if beyond else None)


def claimed(accounts: pd.DataFrame) -> Account:
    """Return what accounts.csv says that a client has spent by a round, server included."""
    valid = accounts[accounts["against"].str.contains(SERVER_INCLUDED, na=False)]

    def account(round: int, client: str) -> tuple[float, float] | None:
        own = valid[(valid["client"] == client) & (valid["round"] <= round)]
        if not len(own):
            return None
        last = own.sort_values("round").iloc[-1]
        return float(last["epsilon"]), float(last["delta"])

    return account


def valid_accounts(folder: RunFolder) -> list[Row]:
    """Return each client's last account; none where identification proves one to be wrong."""
    if naming([folder.identification()]).refuting is not None:
        return []
    return last_accounts(folder.accounts())


def lines(frame: pd.DataFrame) -> list[Named]:
    """Return the rows of identification.csv that have a figure, by client, joined rounds first."""
    found = [_named(row) for row in records(unmasked(frame)) if row["tpr_1"] is not None]
    return sorted(found, key=lambda one: (one.row["client"], one.row["round"] or 0))


def _strongest(found: Sequence[Named]) -> Named:
    """Return the line whose share is largest for sure; of equal ones that of all rounds."""
    return max(found, key=lambda one: (one.low, one.row["round"] is None))


def _named(row: Row) -> Named:
    hits = round(row["tpr_1"] * row["members"])
    low, high = figures.interval(hits, row["members"])
    others = (row["candidates"] or row["members"]) - row["members"]
    chance = figures.chance(hits, row["members"], others, ALARMS)
    ranks = figures.auc_chance(row["auc"], row["members"], others)
    return Named(row=row, hits=hits, low=low, high=high, chance=chance, auc_chance=ranks)


def _share(counts: Sequence[tuple[float, int]]) -> float | None:
    total = sum(members for _, members in counts)
    return sum(hits for hits, _ in counts) / total if total else None
