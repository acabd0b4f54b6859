"""One federation per defence and seed, and what they say side by side."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import delayed

from adversary.common.convert import Value
from adversary.common.errors import UserError, one_line_error
from adversary.common.files import private_folder
from adversary.report import comparison, comparison_json, comparison_page
from adversary.report.comparison import ComparedSetting, ComparisonRow, Run
from adversary.report.pace import Pace
from adversary.storage.names import safe_name
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors
from fl_sim.adversary_setup import make_attacks
from fl_sim.federation import build_federation
from fl_sim.settings.layers import DECLARED, overlay
from fl_sim.settings.options import Options
from fl_sim.settings.parse import canonical, flatten, flatten_toml, parse
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings
from fl_sim.settings.unread import unread
from fl_sim.workers.parallel import parallel_jobs
from strategies.time_left import TimeLeft

Execute = Callable[[Settings], None]
"""Runs a federation in the folder that its settings name, and returns when it is completed."""

_LABEL_LENGTH = 60

_RUN = "run"
"""Stands for the attack where the time that is left is that of whole runs, by setting."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One defence at one strength.

    Parameters
    ----------
    label : str
        Its name in the comparison.
    settings : Settings
        Of its runs, but for seed and folder.
    changes : mapping
        What it changes of the comparison's common settings, the defence aside.
    """

    label: str
    settings: Settings
    changes: Mapping[str, Value]

    @property
    def parameters(self) -> str:
        """The defence's options and the other changes, as text."""
        others = [f"{key}={value}" for key, value in self.changes.items()]
        return ", ".join([*filter(None, [str(self.settings.defence.options)]), *others])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared: each case with each seed."""

    cases: tuple[Case, ...]
    seeds: tuple[int, ...]

    def settings(self, case: Case, seed: int, out: Path) -> Settings:
        """Return the settings of one run of a comparison in the folder ``out``."""
        folder = out / "runs" / safe_name(case.label) / f"seed-{seed}"
        return dataclasses.replace(case.settings, seed=seed, out=str(folder))

    def with_settings(self, change: Callable[[Settings], Settings]) -> Plan:
        """Return the plan with the settings of every case changed."""
        cases = [dataclasses.replace(case, settings=change(case.settings)) for case in self.cases]
        return dataclasses.replace(self, cases=tuple(cases))


def plan(
    config: Mapping[str, Any], changes: Mapping[str, Value] | None = None, *, clients: int = 4
) -> Plan:
    """Read a comparison: a run config, flat but for the entries of its table ``compare``.

    Parameters
    ----------
    config : mapping
        Settings by dotted key, ``compare.seeds`` (a list of integers) and ``compare.defence`` (a
        list of tables with ``name``, ``label``, parameters of the defence, and other settings).
    changes : mapping, optional
        Common settings that win over those of the config, not over those of a defence.
    clients : int
        How many clients there are where the settings leave it open.

    Raises
    ------
    SettingsError
        With one line for every mistake.
    """
    common = overlay(
        {k: v for k, v in config.items() if not k.startswith("compare.")}, changes or {}
    )
    own = {k: v for k, v in config.items() if k.startswith("compare.")}
    errors = [
        f"{key}: a comparison sets it for each run; {instead}"
        for key, instead in (
            ("seed", "take compare.seeds"),
            ("out", "take --out"),
            *((key, "take [[compare.defence]]") for key in common if key.startswith("defence.")),
        )
        if key in common
    ]
    common = {
        key: value
        for key, value in common.items()
        if key not in ("seed", "out") and not key.startswith("defence.")
    }
    errors += [
        f"{key}: unknown setting; compare has seeds and defence"
        for key in own
        if key not in ("compare.seeds", "compare.defence")
    ]
    seeds = own.get("compare.seeds", [1])
    if not _are_seeds(seeds):
        errors.append(f"compare.seeds = {seeds!r}: must be a list of different integers >= 0")
    shared = _mistakes(common)
    cases, wrong = _cases(own.get("compare.defence"), common, clients, known=shared)
    if errors := [*errors, *shared, *wrong] or _unread(cases):
        raise SettingsError("\n".join(errors))
    return Plan(cases=tuple(cases), seeds=tuple(seeds))


def check(wanted: Plan) -> None:
    """Build the parts of each case once: what does not fit together is told before any run.

    Raises
    ------
    SettingsError
        With one line for every mistake.
    """
    errors: dict[str, str] = {}
    for case in wanted.cases:
        settings = dataclasses.replace(case.settings, seed=wanted.seeds[0])
        try:
            make_attacks(settings)
            run = build_federation(settings, settings.clients)
            run.model()
            run.strategy()
        except ValueError as error:
            for line in str(error).splitlines():
                errors.setdefault(line, case.label)  # one that all have is told once
    if errors:
        raise SettingsError("\n".join(f"{label}: {line}" for line, label in errors.items()))


def run(
    wanted: Plan,
    out: Path,
    execute: Execute,
    tell: Callable[[str], None] = lambda line: None,
    *,
    jobs: int = 1,
) -> list[str]:
    """Do the runs that are not done yet, and write the comparison of all.

    A run whose folder holds the completed run of the same settings is kept. One that fails is
    noted, and the next goes on. The comparison is written at the end, however that comes, and after
    a run unless that takes too much of the time, so that what is done shows.

    Parameters
    ----------
    wanted : Plan
        What to compare.
    out : Path
        Folder of the comparison, absolute.
    execute : callable
        Does one run; of several jobs, in a process of its own.
    tell : callable
        Called with each line of progress.
    jobs : int
        Runs at once, >= 1. A run's results are the same whatever it is.

    Returns
    -------
    list of str
        One line for each run that failed; empty where all is well.

    Raises
    ------
    KeyboardInterrupt
        As it came, when the comparison so far is written.
    """
    with one_line_io_errors(out):
        private_folder(out)
    every = [(case, seed) for case in wanted.cases for seed in wanted.seeds]
    todo = [(c, s) for c, s in every if not _is_done(wanted.settings(c, s, out))]
    if kept := len(every) - len(todo):
        tell(f"{kept} of {len(every)} runs are there already and are kept")
    jobs = max(1, min(jobs, len(todo)))
    failures: dict[tuple[str, int], str] = {}
    names = {
        (case.label, seed): f"run {number}/{len(every)} · {case.label} · seed {seed}"
        for number, (case, seed) in enumerate(todo, kept + 1)
    }

    def begun() -> Iterator[Any]:
        for case, seed in todo:
            if jobs == 1:  # several are asked for before they begin
                tell(names[case.label, seed])
            yield delayed(_do)((case.label, seed), wanted.settings(case, seed, out), execute)

    if jobs > 1:
        tell(f"{len(todo)} runs, {jobs} at once")
    left, so_far = TimeLeft(), Pace()
    left.begin()
    left.expect((case.label, _RUN) for case, _ in todo)
    try:
        with parallel_jobs(jobs) as several:
            for key, reason, seconds in several(begun()):
                rest = left.finish(key[0], _RUN, seconds)
                if reason:
                    failures[key] = reason
                    tell(f"{names[key]} · failed: {reason}")
                so_far(lambda: write(wanted, out, failures))
                if rest:
                    tell(f"{names[key]} · done, about {rest}")
    finally:
        write(wanted, out, failures)
    return [f"{label}, seed {seed}: {reason}" for (label, seed), reason in failures.items()]


def write(wanted: Plan, out: Path, failures: Mapping[tuple[str, int], str] | None = None) -> Path:
    """Write the tables, comparison.json and the page of what is there; return the page's path."""
    rows = measure(wanted, out, failures)
    comparison.write_tables(out, rows)
    chosen = {case.label: flatten(case.settings) for case in wanted.cases}
    comparison_json.write(out, rows, chosen)
    return comparison_page.render(out, rows)


def measure(
    wanted: Plan, out: Path, failures: Mapping[tuple[str, int], str] | None = None
) -> list[ComparisonRow]:
    """Return the rows of what is there; see :func:`adversary.report.comparison.compare_runs`."""
    failures = failures or {}
    return comparison.compare_runs(
        ComparedSetting(
            label=case.label,
            defence=case.settings.defence.name,
            parameters=case.parameters,
            runs=tuple(
                Run(
                    seed=seed,
                    path=Path(wanted.settings(case, seed, out).out),
                    note=failures.get((case.label, seed), ""),
                )
                for seed in wanted.seeds
            ),
        )
        for case in wanted.cases
    )


def _do(
    key: tuple[str, int], settings: Settings, execute: Execute
) -> tuple[tuple[str, int], str, float]:
    """Execute one run, replacing its folder; return its key, the error if any, and its seconds."""
    folder, began, reason = Path(settings.out), time.monotonic(), ""
    try:
        RunFolder.clear(folder)
        execute(settings)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()  # a fault of the program, or of one from outside
        reason = one_line_error(error)
    return key, reason, time.monotonic() - began


def _is_done(settings: Settings) -> bool:
    """Whether the folder holds the completed run of these settings, wherever it was made."""
    try:
        info = RunFolder.open(Path(settings.out)).info()
    except RunFolderError:
        return False
    there = info.get("settings")
    wanted = flatten(settings)
    return (
        info.get("status") == "completed"
        and isinstance(there, dict)
        and {**canonical(there), "out": ""} == {**wanted, "out": ""}
    )


def _are_seeds(seeds: object) -> bool:
    return (
        isinstance(seeds, list)
        and bool(seeds)
        and len(set(map(str, seeds))) == len(seeds)
        and all(type(seed) is int and 0 <= seed <= 2**62 for seed in seeds)
    )


def _cases(
    entries: object, common: Mapping[str, Any], clients: int, *, known: Sequence[str]
) -> tuple[list[Case], list[str]]:
    """Return the cases, and a line for each mistake that is not ``known``."""
    if not isinstance(entries, list) or not entries:
        return [], ["compare.defence: must be one or more tables [[compare.defence]]"]
    cases: list[Case] = []
    errors: list[str] = []
    for number, entry in enumerate(entries, 1):
        where = f"compare.defence {number}"
        if not isinstance(entry, dict):
            errors.append(f"{where} = {entry!r}: must be a table with a name")
            continue
        placed = {_place(key): value for key, value in flatten_toml(entry) if key != "label"}
        changes = {k: v for k, v in placed.items() if not k.startswith("defence.")}
        label = entry.get("label", _label(placed))
        wrong = [
            f"{where}: {key}: a comparison sets it for each run"
            for key in ("seed", "out", "defence.name", "defence.options")
            if key in dict(flatten_toml(entry))
        ]
        if "name" not in entry:
            wrong.append(f"{where}: name is missing")
        if not isinstance(label, str) or not 0 < len(label.strip()) <= _LABEL_LENGTH:
            wrong.append(
                f"{where}: label = {label!r}: must be text of 1 to {_LABEL_LENGTH} characters"
            )
        elif label in [case.label for case in cases]:
            wrong.append(f"{where}: label = {label!r}: is taken by another; labels must differ")
        settings = {**common, **placed}
        wrong += [f"{where}: {line}" for line in _mistakes(settings) if line not in known]
        errors += wrong
        if not wrong and not known:
            parsed = parse(settings)
            parsed = dataclasses.replace(parsed, clients=parsed.clients or clients)
            cases.append(Case(label=label, settings=parsed, changes=changes))
    return cases, errors


def _unread(cases: Sequence[Case]) -> list[str]:
    """Return a line for each setting that its own case does not read, or no case at all."""
    found = {case.label: unread(case.settings) for case in cases}
    own = [
        f"{case.label}: {line}"
        for case in cases
        for key, line in found[case.label].items()
        if key in case.changes
    ]
    in_none = set.intersection(*map(set, found.values()))
    changed = {key for case in cases for key in case.changes}
    first = found[cases[0].label]
    return [*(line for key, line in first.items() if key in in_none - changed), *own]


def _place(key: str) -> str:
    """Return where the value of an entry's key belongs: a setting, or else of the defence."""
    return key if "." in key or key in DECLARED else f"defence.{key}"


def _label(placed: Mapping[str, Any]) -> str:
    """Return the defence and its parameters, as they are called where nothing else is said."""
    text = [str(placed.get(f"defence.{key}", "")) for key in ("name", "options")]
    named = {
        key.removeprefix("defence."): value
        for key, value in placed.items()
        if key.startswith("defence.") and key not in DECLARED
    }
    return " ".join(filter(None, [*text, str(Options(named))]))


def _mistakes(settings: Mapping[str, Any]) -> list[str]:
    try:
        parse(settings)
    except SettingsError as error:
        return str(error).splitlines()
    return []
