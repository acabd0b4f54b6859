"""Running a federation from the command line, and saying how it ended."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.cli.first_checks import check_run
from fl_sim.cli.options import Engine, RunFailedError, UsageError

if TYPE_CHECKING:
    from adversary.common.convert import Value
    from adversary.storage.run_folder import Status
    from fl_sim.offline.comparison import Plan
    from fl_sim.settings.schema import Settings


def check_settings(settings: Settings) -> None:
    """Build the parts of the run once: what does not fit is told now, not when Flower is up."""
    from fl_sim.adversary_setup import make_attacks
    from fl_sim.federation import build_federation
    from fl_sim.loggers import makers

    make_attacks(settings)
    makers(settings)
    run = build_federation(settings, settings.clients)
    run.model()
    run.strategy()
    if settings.adversary.identify:
        run.galleries  # noqa: B018 - a file of candidates is read


def settings_of_resumed(given: dict[str, Value], *, overwrite: bool) -> dict[str, Value]:
    """Return the settings of a run that goes on; those of the run itself where none are given."""
    if overwrite:
        raise UsageError("--resume goes on with a run, --overwrite begins anew; name one of them")
    if "out" not in given:
        raise UsageError("--resume: --out must name the folder of the run")
    folder = Path(str(given["out"])).expanduser().absolute()
    check_run(folder)
    from fl_sim.rounds.resume import settings_of

    return {**given, "resume": True} if given.keys() > {"out"} else settings_of(folder)


def check_resume(settings: Settings) -> None:
    """Make sure that the run can go on, before anything starts."""
    from fl_sim.federation import build_federation
    from fl_sim.rounds import resume

    with resume.run_lock(resume.open_for_resume(settings)):
        resume.check(build_federation(settings, settings.clients))


def require_writable(folder: Path, *, overwrite: bool) -> None:
    """Make sure, before anything starts, that a run can be written to ``folder``."""
    from adversary.storage.run_folder import RunFolder
    from fl_sim.rounds.resume import run_lock

    with run_lock(RunFolder(folder)):
        try:
            RunFolder.create(folder, overwrite=overwrite)
        except ValueError as error:
            raise UsageError(str(error)) from error
        RunFolder.clear(folder)  # the run itself makes it anew, with all that it knows of itself


def _run_with_flower(settings: Settings, hear: Callable[[str], None]) -> None:
    from fl_sim.engines.bundle import app_root
    from fl_sim.engines.flower import run_app
    from fl_sim.settings.parse import flatten

    folder = Path(settings.out)
    log = folder / "flower.log"
    try:
        with app_root() as root:
            status = run_app(
                *(root, flatten(settings)),
                supernodes=settings.clients,
                log=log,
                append=settings.resume,
                on_line=hear,
            )
    except KeyboardInterrupt:
        _record_end(folder, "stopped")
        _print_how_to_resume(folder)
        raise
    reason = _failure(folder) if status.completed else status.details or status.status
    if reason:
        _record_end(folder, "failed", reason)
        print(f"the full log is {log}", file=sys.stderr)
        raise RunFailedError(reason)


def _run_locally(settings: Settings, hear: Callable[[str], None]) -> None:
    from fl_sim.engines.in_process import run_in_process

    try:
        with redirect_stdout(LineWriter(hear)):
            run_in_process(settings)
    except KeyboardInterrupt:
        _print_how_to_resume(Path(settings.out))
        raise


def run_unseen(settings: Settings) -> None:
    """Run in a process of its own, which ends with the command that it belongs to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_locally(settings, lambda line: None)


def parallel_runs(wanted: int, engine: Engine, plan: Plan) -> int:
    """Return how many runs of a comparison go on at once."""
    if engine is Engine.flower:
        if wanted > 1:
            raise UsageError(f"--jobs {wanted}: must be 1 with Flower, which takes all cores")
        return 1
    if wanted:
        return wanted
    from joblib import cpu_count

    from adversary.common.torch_state import resolve_device

    devices = {resolve_device(case.settings.device).type for case in plan.cases}
    return cpu_count() if devices == {"cpu"} else 1


class LineWriter(io.TextIOBase):
    """A file that hands on each line that is written to it."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._begun = ""

    def write(self, text: str) -> int:
        """Take text; hand on the lines that it ends."""
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._hear(line)
        return len(text)


ENGINES = {Engine.flower: _run_with_flower, Engine.local: _run_locally}


def _failure(folder: Path) -> str:
    """Return why a run that Flower calls completed is none; empty where it is one."""
    from adversary.storage.run_folder import RunFolder, RunFolderError

    try:
        info = RunFolder.open(folder).info()
    except RunFolderError:
        return f"the ServerApp ended, but wrote no run to {folder}"
    return "" if info["status"] == "completed" else info.get("reason") or info["status"]


def note_death(folder: Path) -> None:
    """Write that a run is stopped which says that it goes on, where no process writes it any more.

    Of runs of this command alone: they hold a lock on their folder, others may not.
    """
    from adversary.storage.run_folder import RunFolder
    from fl_sim.rounds.resume import ResumeError, run_lock

    run_folder = RunFolder(folder)
    info = run_folder.info()
    if info.get("status") != "running" or "settings" not in info:
        return
    with suppress(ResumeError), run_lock(run_folder):
        run_folder.finish("stopped", "Its process ended without a word: killed, or switched off.")
        _print_how_to_resume(folder)


def _print_how_to_resume(folder: Path) -> None:
    """Say after which round a run was stopped, where it is kept, and how it goes on."""
    from adversary.storage.run_folder import RunFolder

    run_folder = RunFolder(folder)
    done = [int(number) for number in run_folder.rounds()["round"].dropna()]
    total = run_folder.info().get("settings", {}).get("rounds")
    after = f"after round {max(done)}" if done else "before its first round was done"
    of = f" of {total}" if done and total else ""
    print(
        f"stopped {after}{of}; kept in {folder}; fl-sim run --resume --out {folder} goes on",
        file=sys.stderr,
    )
    if waiting := len(run_folder.recorded_updates()):
        print(f"{waiting} updates are kept; fl-sim attack {folder} --missing attacks those left",
              file=sys.stderr)  # fmt: skip


def _record_end(folder: Path, status: Status, reason: str = "") -> None:
    """Write how a run ended whose ServerApp could not; what it had written stays.

    A run that is still written is another one, which came first.
    """
    from adversary.report.run_page import render
    from adversary.storage.run_folder import RunFolder, RunFolderError
    from fl_sim.rounds.resume import ResumeError, run_lock

    run_folder = RunFolder(folder)
    with suppress(RunFolderError, ResumeError, OSError), run_lock(run_folder):
        if run_folder.info()["status"] == "running":
            run_folder.finish(status, reason)
            render(run_folder)
