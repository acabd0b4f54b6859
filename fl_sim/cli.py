"""The ``fl-sim`` command. What a subcommand needs is imported when it runs, so help is quick."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
import tomllib
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

if TYPE_CHECKING:
    from adversary.report.run_folder import Status
    from fl_sim.comparison import Plan
    from fl_sim.settings import Settings, Value

FAILED, USAGE, INTERRUPTED = 1, 2, 130
CLIENTS = 4
PACKAGES = {"fl_sim", "strategies", "adversary"}

app = typer.Typer(
    name="fl-sim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="See what the model updates of hospitals give away about their X-rays.",
)


class Engine(StrEnum):
    """What carries the messages between server and clients."""

    flower = "flower"
    local = "local"


class Topic(StrEnum):
    """What ``fl-sim list`` can list."""

    attacks = "attacks"
    defences = "defences"
    models = "models"
    data = "data"
    strategies = "strategies"
    settings = "settings"


class UsageError(ValueError):
    """A mistake on the command line or in a settings file; a line each."""


class RunFailedError(RuntimeError):
    """The run did not come to its regular end; a line for each reason."""


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
]


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings that differ from defaults.")
    ] = None,
    changes: Changes = None,
    # No Path: as one, an empty text would be the current folder.
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the run.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older run.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the unfinished run in --out.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="Flower with Ray, or all in this process, without Ray.")
    ] = Engine.flower,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that Flower logs.")] = False,
) -> None:
    """Train a federation, attack its updates, and write the leakage report."""
    from fl_sim.display import Display
    from fl_sim.settings import parse

    given = _read_config(config) | _changes(changes)
    if out is not None:
        given["out"] = out
    if resume:
        given = _resumed(given, overwrite=overwrite)
    settings = _with_absolute_paths(parse(given))
    settings = dataclasses.replace(settings, clients=settings.clients or CLIENTS)
    _check(settings)
    folder = Path(settings.out)
    if settings.resume:
        _check_resume(settings)
    else:
        _claim(folder, overwrite=overwrite)
    with Display(verbose=verbose) as display:
        if engine is Engine.flower:
            display.say(f"starting Flower with {settings.clients} clients (some 20 s)")
        _ENGINES[engine](settings, display.hear)
    _tell_verdict(folder)
    print(folder / "report.html")


@app.command()
def compare(
    config: Annotated[Path, typer.Option(metavar="FILE.toml", help="Settings, and what differs.")],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the comparison.")
    ] = "results/compare",
    changes: Changes = None,
    engine: Annotated[
        Engine, typer.Option(help="Flower with Ray, or all in this process, without Ray.")
    ] = Engine.flower,
    jobs: Annotated[
        int, typer.Option(min=0, help="Local runs at once; 0 is one for each core, or for a GPU.")
    ] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show all that a run tells.")] = False,
) -> None:
    """Run one federation per defence and seed, and compare leakage and accuracy.

    Runs that are completed are kept: the same command goes on where it stopped.
    """
    from adversary.report.comparison import in_lines
    from fl_sim import comparison
    from fl_sim.display import Display

    wanted = comparison.plan(_read_config(config), _changes(changes), clients=CLIENTS)
    wanted = wanted.with_settings(_with_absolute_paths)
    comparison.check(wanted)
    jobs = _jobs(jobs, engine, wanted)
    folder = Path(out).expanduser().absolute()
    if (folder / "run.json").exists():
        raise UsageError(f"--out {out}: holds a single run; name another folder")
    failures = []
    try:
        with Display(verbose=verbose) as display:

            def execute(settings: Settings) -> None:
                _ENGINES[engine](settings, lambda line: display.hear(line, passing=True))

            several = _run_unseen if jobs > 1 else execute
            failures = comparison.run(wanted, folder, several, display.say, jobs=jobs)
        print(*in_lines(comparison.measure(wanted, folder)), sep="\n")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise
    finally:
        print(folder / "comparison.html")
    if failures:
        raise RunFailedError("\n".join(failures))


@app.command()
def attack(
    folder: Run,
    names: Annotated[
        str | None, typer.Option("--attack", metavar="NAMES", help="Attacks, comma-separated.")
    ] = None,
    changes: Changes = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only what the run, which ended before, left out.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=0, help="Attacks at once; 0 is one for each core, or for a GPU.")
    ] = 0,
) -> None:
    """Attack the recorded updates of a run again; needs neither Flower nor Ray."""
    from fl_sim.reattack import reattack

    changed = _changes(changes)
    if names is not None:
        changed["adversary.attack"] = names
    if device is not None:
        changed["device"] = device
    written = Path(reattack(folder, changed, missing=missing, jobs=jobs)).resolve()
    _tell_verdict(written.parent)
    print(written)


@app.command()
def audit(
    init: Annotated[
        str,
        typer.Option(metavar="WEIGHTS", help="Before training: a file, or RUN or RUN@ROUND."),
    ],
    trained: Annotated[str, typer.Option(metavar="WEIGHTS", help="After training, likewise.")],
    model: Annotated[str | None, typer.Option(help="Architecture; a run tells it.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; a run tells it.")] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="FILE.csv", help="The client's X-rays, by which to score."),
    ] = None,
    indices: Annotated[
        str | None, typer.Option(metavar="0,3,5-9", help="Which of them were used; default all.")
    ] = None,
    names: Annotated[
        str | None, typer.Option("--attack", metavar="NAMES", help="Attacks, comma-separated.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a local step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Local steps; default one epoch.")] = None,
    loss: Annotated[str | None, typer.Option(help="cross-entropy or bce.")] = None,
    batch_norm: Annotated[str | None, typer.Option(help="train or eval.")] = None,
    normalise: Annotated[
        str | None, typer.Option(metavar="MEAN,STD", help="Of the model's input.")
    ] = None,
    frames: Annotated[
        int, typer.Option(min=0, help="Pictures of the process to keep of each trial.")
    ] = 8,
    changes: Changes = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the audit.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older run.")] = False,
) -> None:
    """Attack what lies between two checkpoints; needs neither a federation nor Flower."""
    from fl_sim.audit import audit, parse_indices, parse_normalisation
    from fl_sim.display import Display

    given = _changes(changes)
    options: dict[str, Value | None] = {
        "model.name": model,
        "local.lr": lr,
        "data.path": images,
        "adversary.attack": names,
        "local.batch-size": batch_size,
        "local.max-steps": steps,
        "model.loss": loss,
        "model.batch-norm": batch_norm,
        "out": out,
    }
    given |= {key: value for key, value in options.items() if value is not None}
    if images is not None:
        given.setdefault("data.name", "folder")
    with Display() as display, redirect_stdout(_Lines(display.hear)):
        report = audit(
            init,
            trained,
            given,
            indices=None if indices is None else parse_indices(indices),
            normalise=None if normalise is None else parse_normalisation(normalise),
            frames=frames,
            overwrite=overwrite,
            progress=lambda name, share: display.move(f"{name}: {share:.0%}"),
        )
    _tell_verdict(Path(report).parent)
    print(report)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    sensitive: Annotated[
        bool | None,
        typer.Option(
            "--sensitive/--no-sensitive",
            help="Leave out pictures of patients and names of files, from now on; or show them.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of comparison.html; default beside the first."),
    ] = None,
) -> None:
    """Write the report of a run anew from its files; compare several runs."""
    from adversary.report import comparison, comparison_html, several
    from adversary.report.html import render
    from adversary.report.run_folder import RunFolder

    if len(folders) == 1 and out is not None:
        raise UsageError("--out: is for the comparison of several runs; there is one")
    runs = [RunFolder.open(folder) for folder in folders]
    for run_folder in runs:
        if sensitive is not None:
            run_folder.update(sensitive=sensitive)
        _tell_verdict(run_folder.path)
        print(render(run_folder).resolve())
    if len(runs) > 1:
        place = folders[0].absolute().parent if out is None else Path(out).expanduser().absolute()
        rows = comparison.measure(several.settings_of(runs))
        print(comparison_html.render(place, rows, same_conditions=False).resolve())


@app.command(name="list")
def list_(
    topic: Annotated[Topic | None, typer.Argument(help="All but the settings if left out.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of settings as Markdown.")
    ] = False,
) -> None:
    """List what a setting can name, or the settings themselves."""
    from rich.console import Console

    from fl_sim import catalogue

    if markdown:
        print(catalogue.settings_markdown())
    elif topic is Topic.settings:
        Console().print(catalogue.settings_table())
    else:
        for name in [topic.value] if topic else catalogue.REGISTRIES:
            Console().print(catalogue.names_table(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 (it failed), 2 (wrong usage), 130 (Ctrl-C).

    What the user can put right is told in a line for each mistake; only a fault of the program
    itself shows a traceback.
    """
    # Before torch is imported: threads that spin while they wait starve whatever else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with warnings.catch_warnings():
        warnings.showwarning = _shown_by(warnings.showwarning)
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name="fl-sim", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError:
        return USAGE
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", FAILED)
    except Exception as error:
        if not _for_the_user(error):
            raise
        return _fail(str(error), USAGE if isinstance(error, ValueError) else FAILED)


def _for_the_user(said: BaseException) -> bool:
    """Whether an error or warning is of our own types, which are written for the user."""
    return type(said).__module__.partition(".")[0] in PACKAGES


def _shown_by(others: Callable[..., None]) -> Callable[..., None]:
    """Return what shows a warning: ours in one line, any other as ``others`` does."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        if isinstance(message, Warning) and _for_the_user(message):
            print(f"fl-sim: warning: {message}", file=sys.stderr)
        else:
            others(message, *where, **more)

    return show


def _fail(message: str, code: int) -> int:
    for line in message.splitlines() or ["unknown error"]:
        print(f"fl-sim: error: {line}", file=sys.stderr)
    return code


def _read_config(path: Path | None) -> dict[str, Value]:
    """Return the settings of a TOML file, its tables flattened as Flower does."""
    from fl_sim.settings import flat

    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--config {path}: not a TOML file: {error}") from error
    return dict(flat(document))


def _changes(pairs: Sequence[str] | None) -> dict[str, Value]:
    """Return ``KEY=VALUE`` pairs with the values in the types that the settings declare."""
    from fl_sim.settings import declared

    kinds = {one.key: one.kind for one in declared()}
    changes: dict[str, Value] = {}
    wrong = []
    for pair in pairs or ():
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not (key and equals):
            wrong.append(f"--set {pair}: must be KEY=VALUE")
        else:
            changes[key] = _typed(text, kinds.get(key, str))
    if wrong:
        raise UsageError("\n".join(wrong))
    return changes


def _typed(text: str, kind: type) -> Value:
    """Return ``text`` as ``kind``; as it is where it is none, for the settings to refuse."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is str:
        quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
        return text[1:-1] if quoted else text
    with suppress(ValueError):
        return int(text)
    with suppress(ValueError):
        return float(text)
    return text


def _with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings with their paths made absolute: the run has a folder of its own."""
    from fl_sim.pretrained import IMAGENET

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute()) if path else path

    path = settings.data.path
    of_hub = settings.data.name == "huggingface" and not Path(path).expanduser().exists()
    data = dataclasses.replace(settings.data, path=path if of_hub else absolute(path))
    start_image = absolute(settings.adversary.start_image)
    adversary = dataclasses.replace(settings.adversary, start_image=start_image)
    weights = settings.model.weights
    model = dataclasses.replace(
        settings.model, weights=weights if weights == IMAGENET else absolute(weights)
    )
    return dataclasses.replace(
        settings, out=absolute(settings.out), data=data, model=model, adversary=adversary
    )


def _check(settings: Settings) -> None:
    """Build the parts of the run once: what does not fit is told now, not when Flower is up."""
    from fl_sim.assembly import assemble
    from fl_sim.attacker import attacks
    from fl_sim.loggers import makers
    from fl_sim.unread import refuse_unread

    refuse_unread(settings)
    attacks(settings)
    makers(settings)
    assemble(settings, settings.clients).model()


def _resumed(given: dict[str, Value], *, overwrite: bool) -> dict[str, Value]:
    """Return the settings of a run that goes on; those of the run itself where none are given."""
    from fl_sim.resume import settings_of

    if overwrite:
        raise UsageError("--resume goes on with a run, --overwrite begins anew; name one of them")
    if "out" not in given:
        raise UsageError("--resume: --out must name the folder of the run")
    folder = Path(str(given["out"])).expanduser().absolute()
    return {**given, "resume": True} if given.keys() > {"out"} else settings_of(folder)


def _check_resume(settings: Settings) -> None:
    """Make sure that the run can go on, before anything starts."""
    from fl_sim import resume
    from fl_sim.assembly import assemble

    with resume.only_writer(resume.reopen(settings)):
        resume.check(assemble(settings, settings.clients))


def _claim(folder: Path, *, overwrite: bool) -> None:
    """Make sure, before anything starts, that a run can be written to ``folder``."""
    from adversary.report.run_folder import RunFolder
    from fl_sim.resume import only_writer

    with only_writer(RunFolder(folder)):
        try:
            RunFolder.create(folder, overwrite=overwrite)
        except ValueError as error:
            held = not overwrite and (folder / "run.json").exists()
            hint = " (--overwrite replaces it)" if held else ""
            raise UsageError(f"{error}{hint}") from error
        RunFolder.clear(folder)  # the run itself makes it anew, with all that it knows of itself


def _run_with_flower(settings: Settings, hear: Callable[[str], None]) -> None:
    from fl_sim.launcher import app_root, run_app
    from fl_sim.settings import flatten

    folder = Path(settings.out)
    log = folder / "flower.log"
    try:
        status = run_app(
            *(app_root(), flatten(settings)),
            supernodes=settings.clients,
            log=log,
            append=settings.resume,
            on_line=hear,
        )
    except KeyboardInterrupt:
        _close(folder, "stopped")
        _tell_of_the_rest(folder)
        raise
    reason = _failure(folder) if status.completed else status.details or status.status
    if reason:
        _close(folder, "failed", reason)
        print(f"the full log is {log}", file=sys.stderr)
        raise RunFailedError(reason)


def _run_locally(settings: Settings, hear: Callable[[str], None]) -> None:
    from fl_sim.local_grid import run_local

    with redirect_stdout(_Lines(hear)):
        run_local(settings)


def _run_unseen(settings: Settings) -> None:
    """Run in a process of its own, which ends with the command that it belongs to."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run_locally(settings, lambda line: None)


def _jobs(wanted: int, engine: Engine, plan: Plan) -> int:
    """Return how many runs of a comparison go on at once."""
    if engine is Engine.flower:
        if wanted > 1:
            raise UsageError(f"--jobs {wanted}: must be 1 with Flower, which takes all cores")
        return 1
    if wanted:
        return wanted
    from joblib import cpu_count

    from adversary.adversary import resolve_device

    devices = {resolve_device(case.settings.device).type for case in plan.cases}
    return cpu_count() if devices == {"cpu"} else 1


class _Lines(io.TextIOBase):
    """A file that hands on each line that is written to it."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear = hear
        self._begun = ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._hear(line)
        return len(text)


_ENGINES = {Engine.flower: _run_with_flower, Engine.local: _run_locally}


def _failure(folder: Path) -> str:
    """Return why a run that Flower calls completed is none; empty where it is one."""
    from adversary.report.run_folder import RunFolder, RunFolderError

    try:
        info = RunFolder.open(folder).info()
    except RunFolderError:
        return f"the ServerApp ended, but wrote no run to {folder}"
    return "" if info["status"] == "completed" else info.get("reason") or info["status"]


def _tell_verdict(folder: Path) -> None:
    """Print what a run gave away in a line, if an attack has finished."""
    from adversary.report.run_folder import RunFolder
    from adversary.report.summary import of_folder

    found = of_folder(RunFolder(folder))
    if found.images:
        print(found.line())


def _tell_of_the_rest(folder: Path) -> None:
    """Say how a run that was stopped goes on."""
    from adversary.report.run_folder import RunFolder

    print(f"stopped; fl-sim run --resume --out {folder} goes on from here", file=sys.stderr)
    if waiting := len(RunFolder(folder).recorded_updates()):
        print(f"{waiting} updates are kept; fl-sim attack {folder} --missing attacks those left",
              file=sys.stderr)  # fmt: skip


def _close(folder: Path, status: Status, reason: str = "") -> None:
    """Write how a run ended whose ServerApp could not; what it had written stays.

    A run that is still written is another one, which came first.
    """
    from adversary.report.html import render
    from adversary.report.run_folder import RunFolder, RunFolderError
    from fl_sim.resume import ResumeError, only_writer

    run_folder = RunFolder(folder)
    with suppress(RunFolderError, ResumeError, OSError), only_writer(run_folder):
        if run_folder.info()["status"] == "running":
            run_folder.finish(status, reason)
            render(run_folder)
