"""What the first screen of a report, and the last line of a run, says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adversary.report.flags import FLAGS, Flag
from adversary.report.identified import Named, Naming, naming, valid_accounts
from adversary.report.leakage_rows import (
    Row,
    closeness,
    judged,
    mean,
    points_to_patient,
    with_levels,
)
from adversary.report.run_info import mapping, positive, trained_images
from adversary.report.templating import format_number
from adversary.scoring.verdict import CLOSE_PSNR, COPY_PSNR, Evidence, Severity, with_names
from adversary.storage.names import unmasked
from adversary.storage.run_folder import RunFolder

AVERAGE = "on average over images; a single picture may come out a few dB nearer"
"""What a bound on the expected error leaves open."""


NOBODY = Naming()
"""Nobody was looked for."""


@dataclass(frozen=True)
class Share:
    """How many, of how many where that is known."""

    count: int
    of: int | None = None

    def __str__(self) -> str:
        # A total below the count is of something else: not told.
        known = self.of is not None and self.of >= self.count
        return f"{self.count:,} of {self.of:,}" if known else f"{self.count:,}"


@dataclass(frozen=True)
class Raised:
    """A flag that was raised, and in how many rows."""

    name: str
    count: int

    @property
    def flag(self) -> Flag:
        """What it means; of one that is not of this project, its name alone."""
        return FLAGS.get(self.name) or Flag(title=self.name, meaning="", example="", action="")


@dataclass(frozen=True)
class Summary:
    """The verdict of a run and its figures, over all reconstructions.

    Parameters
    ----------
    level : Level
        Of the reconstruction that gives away the most, ``worst``; open where some were protected
        and nothing is known of others.
    named : Named or None
        The hospital of which most patients can be named beyond chance.
    refuting : Named or None
        What proves that the privacy account is wrong.
    named_alone : bool
        Whether pictures alone would give a lower level.
    images, clients, rounds : int
        Reconstructions, and the clients and rounds that were attacked; ``clients_seen`` and
        ``rounds_seen`` count those that gave a patient away.
    examined : tuple of str
        What the verdict rests on, in words: hospitals, rounds and X-rays, of how many.
    reidentified, chance : float or None
        Share of reconstructions that point to the right patient, by picture or negative, and
        what guessing reaches among the ``candidates``.
    negatives : int
        Reconstructions whose negative is re-identified.
    beyond_null : Share or None
        Those nearer to their patient than to strangers; None where nothing is known of it.
    certificates : dict of str to int
        Reconstructions by what the attacker states of them.
    expected_psnr, expected : float or None, int
        Mean in dB of what the attacker expected, and over how many: those for which it did.
    bound : float or None
        The highest PSNR in dB that any attacker is expected to reach on any of the images.
    mean_psnr, mean_rdlv, mean_prior_psnr, mean_null_psnr : float or None
        Over all reconstructions.
    flags : tuple of Raised
        The most frequent first.
    has_truth : bool
        Whether the true images were there to compare with.
    failed : int
        Attacks that failed.
    """

    level: Severity
    named: Named | None
    refuting: Named | None
    named_alone: bool
    worst: Row
    images: int
    clients_seen: int
    clients: int
    rounds_seen: int
    rounds: int
    examined: tuple[str, ...]
    reidentified: float | None
    chance: float | None
    candidates: int | None
    negatives: int
    beyond_null: Share | None
    certificates: dict[str, int]
    expected_psnr: float | None
    expected: int
    bound: float | None
    mean_psnr: float | None
    mean_rdlv: float | None
    mean_prior_psnr: float | None
    mean_null_psnr: float | None
    flags: tuple[Raised, ...]
    has_truth: bool
    failed: int

    @property
    def bound_meaning(self) -> str:
        """What the bound says of the update, whatever the attack."""
        if self.bound is None:
            return ""
        if self.bound >= COPY_PSNR:
            return f"the updates hold enough for a copy of the X-ray, {AVERAGE}"
        if self.bound >= CLOSE_PSNR:
            return f"a strong attacker can come close to the X-ray, {AVERAGE}"
        return f"no attacker is expected to get more than a blur, {AVERAGE}"

    @property
    def certified(self) -> Share | None:
        """Reconstructions that the attacker proved; None where it stated nothing of any."""
        total = sum(self.certificates.values())
        return Share(self.certificates.get("proved", 0), total) if total else None

    def line(self) -> str:
        """Return the verdict in a line: level, worst image, what was examined, what to look at."""
        named = self.worst
        where = f"{named['client']} in round {named['round']} by {named['attack']}"
        psnr = "" if named["psnr"] is None else f"{format_number(named['psnr'], 1)} dB, "
        parts = [f"verdict: {self.level.label}"]
        if self.has_truth:
            parts.append(f"worst image {psnr}{where}")
        if self.named is not None:
            parts.append(f"the server can name {self.named.words}")
        if self.certified is not None:
            parts.append(f"{self.certified} proved by the attacker itself")
        parts.append(f"examined: {', '.join(self.examined)}")
        if self.flags:
            parts.append(f"flags: {', '.join(one.name for one in self.flags)}")
        return " · ".join(parts)


def of_folder(folder: RunFolder) -> Summary:
    """Return the summary of a run from its folder.

    Raises
    ------
    RunFolderError
        If the folder cannot be read.
    """
    named = naming([folder.identification()])
    rows = with_levels(unmasked(folder.leakage()), valid_accounts(folder))
    return summarise(rows, folder.info(), named)


def summarise(rows: list[Row], info: Mapping[str, Any], identified: Naming = NOBODY) -> Summary:
    """Return the summary of a run's rows, those of masked updates left out.

    Patients who can be named are never less than re-identifiable.
    """
    by_pictures = judged(rows) if any(row["status"] == "ok" for row in rows) else Severity.UNKNOWN
    level = with_names(by_pictures, identified.chance)
    done = [row for row in rows if row["status"] == "ok"]
    seen = [row for row in done if row["level"] >= Severity.IDENTIFIABLE]
    candidates = info.get("candidates")
    candidates = candidates if isinstance(candidates, int) and candidates > 0 else None
    bounds = [row["bound_psnr"] for row in done if row["bound_psnr"] is not None]
    stated = Counter(row["certificate"] for row in done if row.get("certificate") is not None)
    return Summary(
        level=level,
        named=identified.strongest,
        refuting=identified.refuting,
        named_alone=level > by_pictures,
        worst=max(done, key=closeness, default={}),
        images=len(done),
        clients_seen=len({row["client"] for row in seen}),
        clients=len({row["client"] for row in rows}),
        rounds_seen=len({row["round"] for row in seen}),
        rounds=len({row["round"] for row in rows}),
        examined=_examined(done, info),
        reidentified=mean(points_to_patient(row) for row in done),
        chance=1 / candidates if candidates else None,
        candidates=candidates,
        negatives=sum(row.get("negative") is True for row in done),
        beyond_null=_beyond_null(done),
        certificates=dict(stated),
        expected_psnr=mean(row.get("expected_psnr") for row in done),
        expected=sum(row.get("expected_psnr") is not None for row in done),
        bound=max((bound for bound in bounds if math.isfinite(bound)), default=None),
        mean_psnr=mean(row["psnr"] for row in done),
        mean_rdlv=mean(row["rdlv"] for row in done),
        mean_prior_psnr=mean(row.get("prior_psnr") for row in done),
        mean_null_psnr=mean(row.get("null_psnr") for row in done),
        flags=raised(done),
        has_truth=any(row["truth"] is not None for row in done),
        failed=sum(row["status"] != "ok" for row in rows),
    )


def raised(rows: Iterable[Row]) -> tuple[Raised, ...]:
    """Return the flags of the rows, the most frequent first."""
    counts = Counter(
        name for row in rows for name in dict.fromkeys((row.get("flags") or "").split(";")) if name
    )
    return tuple(Raised(*one) for one in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _beyond_null(done: list[Row]) -> Share | None:
    known = [row for row in done if row["psnr"] is not None and row.get("null_psnr") is not None]
    beyond = sum(Evidence.of(row).beyond_null for row in known)
    return Share(beyond, len(known)) if known else None


def _examined(done: list[Row], info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what was looked at of a federation in words; totals as far as run.json tells them."""
    clients, settings = mapping(info.get("clients")), mapping(info.get("settings"))
    aggregate = mapping(info.get("threat")).get("view") == "aggregate"
    hospitals = Share(len({row["client"] for row in done}), len(clients) or None)
    of = f" of {len(clients)} hospitals" if clients else ""
    parts = [f"the mean update{of}" if aggregate else _counted(hospitals, "hospital")]
    parts.append(
        _counted(
            Share(len({row["round"] for row in done}), positive(settings.get("rounds"))), "round"
        )
    )
    if names := {row["truth"] for row in done if row["truth"] is not None}:
        parts.append(_counted(Share(len(names), trained_images(info)), "X-ray"))
    return tuple(parts)


def _counted(share: Share, noun: str) -> str:
    number = share.of if str(share) != f"{share.count:,}" else share.count
    return f"{share} {noun}{'' if number == 1 else 's'}"
