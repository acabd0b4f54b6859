"""Attack the recorded updates of a run again, without Flower or Ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from joblib import cpu_count, delayed

from adversary.attacks.adversary import Adversary
from adversary.common.convert import Value
from adversary.common.errors import UserError, one_line_error
from adversary.observation.observation import Observation, ObservationError, UpdateKey
from adversary.report import run_page
from adversary.report.ledger import Ledger
from adversary.scoring.scorer import Scored, Scorer
from adversary.storage.names import round_of
from adversary.storage.run_folder import RunFolder
from fl_sim import run_metadata
from fl_sim.federation import Federation, build_federation
from fl_sim.progress import report_progress
from fl_sim.rounds.resume import run_lock
from fl_sim.settings.derived import device
from fl_sim.settings.layers import overlay
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings
from fl_sim.settings.unread import REATTACK_PASSES_OVER, refuse_unread_changes
from fl_sim.workers.attack_task import MAX_PARALLEL_ATTACKS, attack_and_score
from fl_sim.workers.parallel import parallel_jobs
from strategies.time_left import TimeLeft

CHANGEABLE = ("adversary.", "device")


class ReattackError(UserError, ValueError):
    """A run whose updates cannot be attacked again; one line."""


def reattack(
    path: Path,
    changes: Mapping[str, Value] | None = None,
    *,
    missing: bool = False,
    jobs: int = 1,
) -> Path:
    """Attack every recorded update of a run, and write its report anew.

    With the settings of the run itself the same comes out as in the run, on the same device.
    Results of the same attack on the same update are replaced, all others stay.

    Parameters
    ----------
    path : Path
        The run's folder.
    changes : mapping, optional
        Settings that differ from the run's, flat: ``adversary.*`` and ``device``.
    missing : bool
        Whether only those attacks are run that the run, which ended before, has not got to.
    jobs : int
        Attacks at once, each in a process of its own; 0 is one for each core, up to 8, or for
        the GPU. What they find is the same.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    ValueError
        If there is no run, it is still written, it recorded nothing, or a setting is wrong; a line
        each. If an update cannot be read, when all others are attacked.
    """
    folder = RunFolder.open(path)
    with run_lock(folder):
        return _reattack(folder, dict(changes or {}), missing=missing, jobs=jobs)


def _reattack(folder: RunFolder, changes: dict[str, Value], *, missing: bool, jobs: int) -> Path:
    path, info = folder.path, folder.info()
    _check_changeable(changes)
    if info.get("audit"):
        raise ReattackError(f"{path} is an audit: fl-sim audit --overwrite attacks it again")
    if not folder.recorded_updates() and not missing:
        raise ReattackError(
            f"{path} holds no recorded updates: run with adversary.record = true to keep them"
        )
    settings = _changed_settings(info.get("settings"), changes, path)
    run, adversary, scorer = _parts(settings)
    ledger = Ledger(folder, scorer=scorer)  # which records nothing: updates are there already
    folder.update(oracles=sorted({*info.get("oracles", ()), *run_metadata.oracles(run)}))

    names = adversary.names
    every = dict.fromkeys(folder.recorded_updates(), names)
    updates = folder.unattacked(names) if missing else every
    todo = [(update, attack) for update, attacks in updates.items() for attack in attacks]
    if missing:
        report_progress(f"{len(todo)} attacks are missing")
    countdown = TimeLeft()
    countdown.begin()
    countdown.expect((update.stem, attack) for update, attack in todo)
    left = Counter(update for update, _ in todo)
    unusable: dict[Path, str] = {}
    for update, attack, found in _examined(settings, todo, jobs):
        round, client = round_of(update), update.stem
        if isinstance(found, str):  # what is known of this update stays
            report_progress(f"attack {countdown.position()} · {found}")
            countdown.drop(client, [attack])
            unusable.setdefault(update, found)
            continue
        folder.forget(round, client, attack)
        verdict = ledger.record_result(UpdateKey(round, client), found)
        report_progress(countdown.finished(round, client, found.outcome, verdict))
        left[update] -= 1
        if missing and not settings.adversary.record and not left[update]:  # it only waited there
            folder.forget_update(update)
    folder.sort()
    ledger.sum_up_identification()
    report = run_page.render(folder)
    if errors := [*unusable.values(), *ledger.errors]:
        raise ReattackError(f"the report is not complete: {errors[0]}")
    return report


def _check_changeable(changes: Mapping[str, Value]) -> None:
    if wrong := [key for key in changes if not key.startswith(CHANGEABLE)]:
        fixed = "the run fixed it; only adversary.* and device can change"
        raise SettingsError("\n".join(f"{key}: {fixed}" for key in wrong))


def _changed_settings(told: object, changes: Mapping[str, Value], path: Path) -> Settings:
    """Return what run.json tells of a run's settings, with the changes."""
    if not isinstance(told, dict):
        raise ReattackError(f"{path}: run.json holds no settings")
    settings = parse(overlay(told, changes))
    refuse_unread_changes(settings, changes, "fl-sim attack", REATTACK_PASSES_OVER)
    return settings


def _examined(
    settings: Settings, todo: list[tuple[Path, str]], jobs: int
) -> Iterator[tuple[Path, str, Scored | str]]:
    """Yield each update and attack, with what came of it, in the order in which they end."""
    jobs = max(1, min(jobs or _room(settings), len(todo)))
    with parallel_jobs(jobs) as several:
        yield from several(delayed(_attacked)(settings, *one) for one in todo)


def _room(settings: Settings) -> int:
    """Return how many attacks to run at once where nothing is said of it."""
    if device(settings).type != "cpu":
        return 1
    return min(cpu_count() // settings.adversary.num_cpus, MAX_PARALLEL_ATTACKS)


def _attacked(settings: Settings, update: Path, attack: str) -> tuple[Path, str, Any]:
    try:
        observation = Observation.load(update)
    except ObservationError as error:
        return update, attack, one_line_error(error)
    run, adversary, scorer = _parts(settings)
    found = attack_and_score(adversary, scorer, run.threat_model, observation, {attack})
    return update, attack, found if isinstance(found, str) else found[0]


@lru_cache(maxsize=1)
def _parts(settings: Settings) -> tuple[Federation, Adversary, Scorer]:
    """Return the run, what attacks and what scores, made once in each process."""
    run = build_federation(settings, settings.clients)
    return run, run.adversary(), run.scorer()
