"""Attack the recorded updates of a run again, without Flower or Ray."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adversary.observation import Observation
from adversary.report import html
from adversary.report.run_folder import RunFolder
from fl_sim import about
from fl_sim.assembly import assemble
from fl_sim.progress import say
from fl_sim.resume import only_writer
from fl_sim.settings import SettingsError, Value, parse

CHANGEABLE = ("adversary.", "device")


class ReattackError(ValueError):
    """A run whose updates cannot be attacked again; one line."""


def reattack(
    path: Path, changes: Mapping[str, Value] | None = None, *, missing: bool = False
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

    Returns
    -------
    Path
        The report.

    Raises
    ------
    ValueError
        If there is no run, it is still written, it recorded nothing, or a setting is wrong; a line
        each.
    """
    folder = RunFolder.open(path)
    with only_writer(folder):
        return _reattack(folder, dict(changes or {}), missing=missing)


def _reattack(folder: RunFolder, changes: dict[str, Value], *, missing: bool) -> Path:
    path, info = folder.path, folder.info()
    if wrong := [key for key in changes if not key.startswith(CHANGEABLE)]:
        raise SettingsError(
            "\n".join(f"{key}: the run fixed it; only adversary.* and device can change"
                      for key in wrong)
        )  # fmt: skip
    if info.get("audit"):
        raise ReattackError(f"{path} is an audit: fl-sim audit --overwrite attacks it again")
    if not folder.recorded_updates() and not missing:
        raise ReattackError(
            f"{path} holds no recorded updates: run with adversary.record = true to keep them"
        )
    if not isinstance(info.get("settings"), dict):
        raise ReattackError(f"{path}: run.json holds no settings")
    settings = parse(info["settings"] | changes)
    run = assemble(settings, settings.clients)
    adversary = run.adversary()
    ledger = run.ledger(folder)
    ledger.record = False  # they are recorded already
    folder.update(oracles=sorted({*info.get("oracles", ()), *about.oracles(run)}))

    names = [attack.name for attack in adversary.attacks]
    every = dict.fromkeys(folder.recorded_updates(), tuple(names))
    updates = folder.unattacked(names) if missing else every
    total, done = sum(map(len, updates.values())), 0
    if missing:
        say(f"{total} attacks are missing")
    for update, attacks in updates.items():
        observation = Observation.load(update)
        for outcome in adversary.examine(observation, run.threat(observation), only=attacks):
            done += 1
            folder.forget(observation.round, observation.client, outcome.attack)
            psnr = ledger.outcome(observation, outcome)
            result = "done" if psnr is None else f"{psnr:.1f} dB"
            say(
                f"attack {done}/{total} · round {observation.round} · {observation.client} · "
                f"{outcome.attack} · {outcome.failure or result}"
            )
        if missing and not settings.adversary.record:  # it was only waiting there
            folder.forget_update(update)
    folder.sort()
    if ledger.errors:
        raise ReattackError(f"the report is not complete: {ledger.errors[0]}")
    return html.render(folder)
