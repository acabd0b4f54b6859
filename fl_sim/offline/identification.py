"""Who was in the recorded updates of a run: named among candidates, without Flower or Ray.

The attacker has an update, the public X-rays, and a gallery of candidates with their labels; only
scoring knows who trained. In a simulation the gallery is everybody: the patients of all hospitals,
and the X-rays that are held out for testing as further non-members. In a deployment it is a file,
and scores and p-values are all that comes out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adversary.common.errors import one_line_error
from adversary.identification import Gallery, Identification, identify
from adversary.identification.ceilings import epsilon_lower, private_power
from adversary.identification.figures import auc, power
from adversary.identification.joining import joined
from adversary.identification.null import named, p_values
from adversary.observation.observation import Observation, ObservationError
from adversary.report import run_page
from adversary.report.identified import ALARMS
from adversary.storage.names import round_of
from adversary.storage.run_folder import RunFolder
from fl_sim.data import XrayDataset
from fl_sim.data.client import images_of_client
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.federation import Federation, build_federation
from fl_sim.progress import report_progress
from fl_sim.rounds.resume import run_lock
from fl_sim.settings.parse import parse
from fl_sim.settings.schema import Settings
from strategies.time_left import TimeLeft


class IdentificationRunError(ValueError):
    """A run in whose updates nobody can be looked for; one line."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Person:
    """Scores by patient: of several X-rays the likeliest, with a p-value for having several."""

    names: tuple[str, ...]
    scores: Tensor
    p_values: Tensor
    posteriors: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class _Joinable:
    """One update's standardised scores, by X-ray, and what scoring knows of it."""

    found: Identification
    members: Tensor
    epsilon: float
    delta: float


def identify_run(path: Path, *, candidates: str = "") -> Path:
    """Look for candidates in every recorded update of a run; return identification.csv.

    Rows of one client's rounds are followed by one of all of them joined, without a round. Of a
    file of candidates nobody knows who trained, so that only candidates.csv says something. A run
    in ``sensitive`` mode gets no candidates.csv.

    Parameters
    ----------
    path : Path
        The run's folder.
    candidates : str
        Folder or CSV file of X-rays to look for, as ``data.path`` of a folder; by default all
        private patients of the simulation and its test X-rays.

    Raises
    ------
    ValueError
        If there is no run, it recorded nothing, a file cannot be read, or no update tells anything;
        one line.
    """
    folder = RunFolder.open(path)
    with run_lock(folder):
        info = folder.info()
        if not folder.recorded_updates():
            raise IdentificationRunError(
                f"{path} holds no recorded updates: run with adversary.record = true to keep them"
            )
        if not isinstance(info.get("settings"), dict):
            raise IdentificationRunError(f"{path}: run.json holds no settings")
        settings = parse(info["settings"])
        run = build_federation(settings, settings.clients)
        gallery, owners = _of_file(settings, candidates) if candidates else _everybody(run)
        _identify(folder, run, gallery, owners, known=not candidates)
    return folder.path / "identification.csv"


def _everybody(run: Federation) -> tuple[Gallery, tuple[str, ...]]:
    """Return all private X-rays and those for testing, and whose each is."""
    parts = [run.splits.private, run.splits.test]
    owners = tuple(patient for part in parts for patient in part.patients)
    return _gallery([part for part in parts if len(part)]), owners


def _of_file(settings: Settings, path: str) -> tuple[Gallery, tuple[str, ...]]:
    request = DatasetRequest(
        name="folder",
        path=path,
        image_size=settings.data.image_size,
        channels=settings.data.channels,
        num_images=0,
        public=0,
        test_fraction=0.0,
        seed=settings.seed,
    )
    found = images_of_client(request).used
    return _gallery([found]), tuple(found.patients)


def _gallery(parts: Sequence[XrayDataset]) -> Gallery:
    return Gallery(
        images=torch.cat([part.tensor(range(len(part))) for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        names=tuple(name for part in parts for name in part.names),
    )


def _identify(
    folder: RunFolder, run: Federation, gallery: Gallery, owners: tuple[str, ...], *, known: bool
) -> None:
    updates = folder.recorded_updates()
    folder.forget_identification()
    countdown = TimeLeft()
    countdown.begin()
    countdown.expect(len(updates))
    by_client: dict[str, list[_Joinable]] = {}
    whose = dict(zip(gallery.names, owners, strict=True))
    for update in updates:
        round, client = round_of(update), update.stem
        report_progress(f"identify {countdown.position()} · round {round} · {client}")
        try:
            observation = Observation.load(update)
            one = _one(folder, run, observation, gallery, known=known)
        except (ObservationError, ValueError) as error:  # the others go on
            folder.add_identification(round=round, client=client, flags=one_line_error(error))
            report_progress(one_line_error(error))
            countdown.finish()
            continue
        by_client.setdefault(client, []).append(one)
        told = _written(folder, round, client, one, whose)
        left = countdown.finish()
        report_progress(f"round {round} · {client} · {told}" + (f" · {left}" if left else ""))
    for client, rounds in by_client.items():
        if len(rounds) > 1 and len({one.found.names for one in rounds}) == 1:
            told = _written(folder, None, client, _joined(rounds), whose)
            report_progress(f"all rounds · {client} · {told}")
    run_page.render(folder)


def _one(
    folder: RunFolder, run: Federation, observation: Observation, gallery: Gallery, *, known: bool
) -> _Joinable:
    found = identify(
        observation,
        run.threat_model(observation),
        run.model(),
        gallery,
        run.prior(),
        seed=run.settings.seed,
    )
    truth = run.truth(observation) if known else None
    inside = set(truth.names) if truth else set()
    epsilon, delta = _account(folder, observation)
    return _Joinable(
        found=found,
        members=torch.tensor([name in inside for name in found.names]),
        epsilon=epsilon,
        delta=delta,
    )


def _account(folder: RunFolder, observation: Observation) -> tuple[float, float]:
    """Return the epsilon and delta of one image that the run claims by then; NaN where none."""
    accounts = folder.accounts()
    rows = accounts[
        (accounts["round"] == observation.round)
        & (accounts["client"] == observation.client)
        & accounts["against"].str.contains("server included", na=False)
    ]
    if not len(rows):
        return math.nan, math.nan
    return float(rows["epsilon"].iloc[-1]), float(rows["delta"].iloc[-1])


def _joined(rounds: Sequence[_Joinable]) -> _Joinable:
    """Return one client's rounds as one; who was in any of them counts as a member."""
    first = rounds[0].found
    scores, others = joined([(one.found.scores, one.found.null) for one in rounds], first.rate)
    found = dataclasses.replace(
        first,
        scores=scores,
        null=others,
        p_values=p_values(scores, len(others)),
        posteriors=torch.stack([one.found.posteriors for one in rounds]).amax(0),
        seconds=sum(one.found.seconds for one in rounds),
        flags=tuple(dict.fromkeys(flag for one in rounds for flag in one.found.flags)),
    )
    members = torch.stack([one.members for one in rounds]).any(0)
    return _Joinable(
        found=found, members=members, epsilon=rounds[-1].epsilon, delta=rounds[-1].delta
    )


def _by_person(found: Identification, whose: Mapping[str, str]) -> _Person:
    """Return scores by patient; p-values times the number of a patient's X-rays (Bonferroni)."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(found.names):
        places.setdefault(whose[name], []).append(place)
    best = [max(own, key=lambda i: float(found.scores[i])) for own in places.values()]
    times = torch.tensor([len(own) for own in places.values()], dtype=torch.float64)
    return _Person(
        names=tuple(places),
        scores=found.scores[best],
        p_values=(found.p_values[best] * times).clamp(max=1),
        posteriors=found.posteriors[best],
    )


def _figures(one: _Joinable, people: _Person, whose: Mapping[str, str]) -> dict[str, Any]:
    """Return the figures of one update, or of joined ones; those of members only if known."""
    inside = {whose[n] for n, yes in zip(one.found.names, one.members, strict=True) if yes}
    members = torch.tensor([name in inside for name in people.names])
    scores, others = people.scores[members], people.scores[~members]
    at_1, at_01 = power(scores, others, ALARMS), power(scores, others, ALARMS / 10)
    alarmed = people.p_values <= ALARMS
    figures: dict[str, Any] = {
        "members": int(members.sum()),
        "candidates": len(members),
        "seconds": one.found.seconds,
        "flags": ";".join(one.found.flags),
    }
    if not members.any():
        return figures
    figures |= {
        "auc": auc(scores, others),
        "tpr_1": at_1.rate if at_1 else None,
        "tpr_01": at_01.rate if at_01 else None,
        "named": float(named(people.p_values)[members].double().mean()),
    }
    if math.isfinite(one.epsilon):
        figures |= {
            "epsilon": one.epsilon,
            "ceiling_tpr_1": private_power(one.epsilon, one.delta, ALARMS),
            "epsilon_lower": epsilon_lower(
                int(alarmed[members].sum()), int(members.sum()),
                int(alarmed[~members].sum()), int((~members).sum()), one.delta,
            ),
        }  # fmt: skip
    return figures


def _written(
    folder: RunFolder, round: int | None, client: str, one: _Joinable, whose: Mapping[str, str]
) -> str:
    """Write what was found, and return in words who can be named."""
    people = _by_person(one.found, whose)
    figures = _figures(one, people, whose)
    folder.add_identification(round=round, client=client, **figures)
    if not folder.info().get("sensitive"):
        _write_candidates(folder, round, client, people)
    return _told(figures, people)


def _write_candidates(folder: RunFolder, round: int | None, client: str, people: _Person) -> None:
    folder.add_candidates(
        {"round": round, "client": client, "candidate": name, "score": float(score),
         "p_value": float(p), "posterior": float(posterior)}
        for name, score, p, posterior in zip(
            people.names, people.scores, people.p_values, people.posteriors, strict=True
        )
    )  # fmt: skip


def _told(found: Mapping[str, Any], people: _Person) -> str:
    """Return figures in words."""
    if found.get("tpr_1") is None:
        count = int(named(people.p_values).sum())
        return f"{count} of {found['candidates']} candidates at a false discovery rate of 5 %"
    count = round(found["tpr_1"] * found["members"])
    return (
        f"{count} of {found['members']} patients named at one false alarm in a hundred "
        f"(AUC {found['auc']:.3f})"
    )
