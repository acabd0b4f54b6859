"""The ``fl-sim`` command. What a subcommand needs is imported when it runs, so help is quick."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from fl_sim.cli.first_checks import (
    check_any_run,
    check_compared,
    check_free,
    check_paths,
    check_recorded,
    check_weights,
    check_writable,
)
from fl_sim.cli.options import (
    ChangesOption,
    Engine,
    RunArgument,
    RunFailedError,
    UsageError,
    parse_changes,
    read_config,
    with_absolute_paths,
)
from fl_sim.cli.running import (
    ENGINES,
    LineWriter,
    check_resume,
    check_settings,
    note_death,
    parallel_runs,
    require_writable,
    run_unseen,
    settings_of_resumed,
)
from fl_sim.cli.verdicts import FailOnOption, conclude

if TYPE_CHECKING:
    from adversary.common.convert import Value
    from fl_sim.settings.schema import Settings

FAILED, USAGE, INTERRUPTED = 1, 2, 130
DEFAULT_CLIENTS = 4

app = typer.Typer(
    name="fl-sim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="See what the model updates of hospitals give away about their X-rays.",
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"fl-sim {version('fl-sim')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it."),
    ] = False,
) -> None:
    """See what the model updates of hospitals give away about their X-rays."""


class Topic(StrEnum):
    """What ``fl-sim list`` can list."""

    attacks = "attacks"
    defences = "defences"
    models = "models"
    data = "data"
    strategies = "strategies"
    settings = "settings"


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Settings that differ from defaults.")
    ] = None,
    changes: ChangesOption = None,
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
    fail_on: FailOnOption = None,
) -> None:
    """Train a federation, attack its updates, and write the leakage report."""
    from fl_sim.cli.display import Display
    from fl_sim.settings.layers import overlay
    from fl_sim.settings.parse import parse
    from fl_sim.settings.unread import refuse_unread

    given = overlay(read_config(config), parse_changes(changes))
    if out is not None:
        given["out"] = out
    if resume:
        given = settings_of_resumed(given, overwrite=overwrite)
    settings = with_absolute_paths(parse(given))
    settings = dataclasses.replace(settings, clients=settings.clients or DEFAULT_CLIENTS)
    folder = Path(settings.out)
    refuse_unread(settings)
    check_paths(settings)
    check_free(folder, overwrite=overwrite or settings.resume)
    check_writable(folder)
    check_settings(settings)
    if settings.resume:
        check_resume(settings)
    else:
        require_writable(folder, overwrite=overwrite)
    with Display(verbose=verbose) as display:
        if engine is Engine.flower:
            display.say(f"starting Flower with {settings.clients} clients (some 20 s)")
        ENGINES[engine](settings, display.hear)
    print(folder / "report.html")
    conclude(folder, fail_on)


@app.command()
def demo(
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the run.")] = "results/demo",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older run.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="Flower with Ray, or all in this process, without Ray.")
    ] = Engine.flower,
) -> None:
    """Run four hospitals for three rounds, and attack all of their updates."""
    run(config=Path("demo"), out=out, overwrite=overwrite, engine=engine)


@app.command()
def compare(
    config: Annotated[Path, typer.Option(metavar="FILE.toml", help="Settings, and what differs.")],
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the comparison.")
    ] = "results/compare",
    changes: ChangesOption = None,
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
    given, changed = read_config(config), parse_changes(changes)
    check_compared(config, given)
    folder = Path(out).expanduser().absolute()
    if (folder / "run.json").exists():
        raise UsageError(f"--out {out}: holds a single run; name another folder")
    from adversary.report.comparison import in_lines
    from fl_sim.cli.display import Display
    from fl_sim.offline import comparison

    wanted = comparison.plan(given, changed, clients=DEFAULT_CLIENTS)
    wanted = wanted.with_settings(with_absolute_paths)
    comparison.check(wanted)
    jobs = parallel_runs(jobs, engine, wanted)
    failures = []
    try:
        with Display(verbose=verbose) as display:

            def execute(settings: Settings) -> None:
                ENGINES[engine](settings, lambda line: display.hear(line, passing=True))

            several = run_unseen if jobs > 1 else execute
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
    folder: RunArgument,
    names: Annotated[
        str | None, typer.Option("--attack", metavar="NAMES", help="Attacks, comma-separated.")
    ] = None,
    changes: ChangesOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only what the run, which ended before, left out.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=0, help="Attacks at once; 0 is one for each core, or for a GPU.")
    ] = 0,
    fail_on: FailOnOption = None,
) -> None:
    """Attack the recorded updates of a run again; needs neither Flower nor Ray."""
    check_recorded(folder, missing=missing)
    changed = parse_changes(changes)
    from fl_sim.offline.reattack import reattack

    if names is not None:
        changed["adversary.attack"] = names
    if device is not None:
        changed["device"] = device
    written = Path(reattack(folder, changed, missing=missing, jobs=jobs)).resolve()
    print(written)
    conclude(written.parent, fail_on)


@app.command()
def identify(
    folder: RunArgument,
    candidates: Annotated[
        str,
        typer.Option(metavar="PATH", help="Folder or CSV of X-rays to look for; default everyone."),
    ] = "",
) -> None:
    """Tell who was in the recorded updates of a run, of candidates whose X-rays are at hand."""
    check_recorded(folder)
    from fl_sim.offline.identification import identify_run

    written = identify_run(folder, candidates=candidates).resolve()
    print(written)
    conclude(written.parent)


class Mechanism(StrEnum):
    """What ``fl-sim check-dp`` can work out."""

    local_dp_mod = "local-dp-mod"
    central_dp = "central-dp"
    dp_sgd = "dp-sgd"


@app.command(name="check-dp")
def check_dp(
    mechanism: Annotated[Mechanism, typer.Argument(help="What adds the noise.")],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE...", help="Its settings.")
    ] = None,
) -> None:
    """Work out the epsilon that settings of differential privacy really earn."""
    from fl_sim.offline.check_dp import create, report

    given = {}
    for pair in options or ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{pair!r} is not KEY=VALUE")
        given[key] = value
    for line in report(create(mechanism, given)):
        print(line)


def _with_options(changes: list[str] | None, settings: dict[str, Value | None]) -> dict[str, Value]:
    """Return the settings that options gave, beside those of ``--set``."""
    given = parse_changes(changes) | {k: v for k, v in settings.items() if v is not None}
    if settings.get("data.path") is not None:
        given.setdefault("data.name", "folder")
    return given


Before = Annotated[
    str, typer.Option(metavar="WEIGHTS", help="Before training: a file, or RUN or RUN@ROUND.")
]
After = Annotated[str, typer.Option(metavar="WEIGHTS", help="After training, likewise.")]
ImagesOption = Annotated[
    str | None, typer.Option(metavar="FILE.csv", help="The client's X-rays, by which to score.")
]
IndicesOption = Annotated[
    str | None, typer.Option(metavar="0,3,5-9", help="Which of them were used; default all.")
]
AttackOption = Annotated[
    str | None, typer.Option("--attack", metavar="NAMES", help="Attacks, comma-separated.")
]
NormaliseOption = Annotated[
    str | None, typer.Option(metavar="MEAN,STD", help="Of the model's input.")
]
FramesOption = Annotated[
    int | None,
    typer.Option(min=0, help="Pictures of the process to keep of each trial; default 8."),
]


@app.command()
def audit(
    init: Before,
    trained: After,
    model: Annotated[str | None, typer.Option(help="Architecture; a run tells it.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; a run tells it.")] = None,
    images: ImagesOption = None,
    indices: IndicesOption = None,
    names: AttackOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a local step.")] = None,
    steps: Annotated[int | None, typer.Option(help="Local steps; default one epoch.")] = None,
    loss: Annotated[str | None, typer.Option(help="cross-entropy or bce.")] = None,
    batch_norm: Annotated[str | None, typer.Option(help="train or eval.")] = None,
    normalise: NormaliseOption = None,
    frames: FramesOption = None,
    changes: ChangesOption = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the audit.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older run.")] = False,
    fail_on: FailOnOption = None,
) -> None:
    """Attack what lies between two checkpoints; needs neither a federation nor Flower."""
    check_weights(init=init, trained=trained)
    from fl_sim.cli.display import Display
    from fl_sim.offline.audit import AuditOptions, audit, parse_indices, parse_normalisation

    settings: dict[str, Value | None] = {
        "model.name": model,
        "local.lr": lr,
        "data.path": images,
        "adversary.attack": names,
        "local.batch-size": batch_size,
        "local.max-steps": steps,
        "model.loss": loss,
        "model.batch-norm": batch_norm,
        "out": out,
        "adversary.frames": frames,
    }
    given = _with_options(changes, settings)
    how = AuditOptions(
        indices=None if indices is None else parse_indices(indices),
        normalise=None if normalise is None else parse_normalisation(normalise),
        overwrite=overwrite,
    )
    with Display() as display, redirect_stdout(LineWriter(display.hear)):
        report = audit(init, trained, given, how, progress=display.progress)
    print(report)
    conclude(Path(report).parent, fail_on)


@app.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs, or one that holds many."),
    ],
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
    fail_on: FailOnOption = None,
) -> None:
    """Write the report of a run anew; compare several runs; or index the runs below a folder."""
    if len(folders) == 1 and out is not None:
        raise UsageError("--out: is for the comparison of several runs; there is one")
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise UsageError("\n".join(f"{folder}: no such folder" for folder in missing))
    if len(folders) == 1 and not (folders[0] / "run.json").exists():
        check_any_run(folders[0])
    from adversary.report import comparison, comparison_page, run_groups, run_history
    from adversary.report.run_page import render
    from adversary.storage.run_folder import RunFolder

    if len(folders) == 1 and not (folders[0] / "run.json").exists():
        print(run_history.render(folders[0]).resolve())
        return
    runs = [RunFolder.open(folder) for folder in folders]
    for run_folder in runs:
        if sensitive is not None:
            run_folder.update(sensitive=sensitive)
        note_death(run_folder.path)
        print(render(run_folder).resolve())
    if len(runs) > 1:
        place = folders[0].absolute().parent if out is None else Path(out).expanduser().absolute()
        rows = comparison.compare_runs(run_groups.settings_of(runs))
        print(comparison_page.render(place, rows, same_conditions=False).resolve())
    for run_folder in runs:
        conclude(run_folder.path, fail_on)


@app.command(name="list")
def list_(
    topic: Annotated[Topic | None, typer.Argument(help="All but the settings if left out.")] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of settings as Markdown.")
    ] = False,
) -> None:
    """List what a setting can name, or the settings themselves."""
    from rich.console import Console

    from fl_sim.cli import listing

    if markdown:
        print(listing.settings_markdown())
    elif topic is Topic.settings:
        Console().print(*listing.settings_tables(), sep="\n")
    else:
        for name in [topic.value] if topic else listing.REGISTRIES:
            Console().print(listing.names_table(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 (it failed), 2 (wrong usage), 130 (Ctrl-C).

    What the user can put right is told in a line for each mistake; only a fault of the program
    itself shows a traceback.
    """
    # Before torch is imported: threads that spin while they wait starve whatever else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with warnings.catch_warnings():
        warnings.showwarning = _warning_printer(warnings.showwarning)
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, prog_name="fl-sim", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError:
        return USAGE
    except click.ClickException as error:
        return _fail(f"{error.format_message()}{_hint(arguments)}", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", FAILED)
    except (UsageError, RunFailedError) as error:
        return _fail(str(error), _code(error))
    except Exception as error:
        from adversary.common.errors import UserError

        if not isinstance(error, UserError):
            raise
        return _fail(str(error), _code(error))


def _hint(arguments: Sequence[str] | None) -> str:
    """Return how a settings file is given, where one is not given so; else nothing."""
    given = sys.argv[1:] if arguments is None else arguments
    bare = [
        word
        for before, word in zip(["", *given], given, strict=False)
        if word.endswith(".toml") and not before.startswith("-")
    ]
    return f"; a settings file is given as --config {bare[0]}" if bare else ""


def _code(error: Exception) -> int:
    return USAGE if isinstance(error, ValueError) else FAILED


def _warning_printer(others: Callable[..., None]) -> Callable[..., None]:
    """Return a `warnings.showwarning` hook that prints our warnings on one line."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        from adversary.common.errors import UserNotice

        if isinstance(message, UserNotice):
            print(f"fl-sim: warning: {message}", file=sys.stderr)
        else:
            others(message, *where, **more)

    return show


def _fail(message: str, code: int) -> int:
    for line in message.splitlines() or ["unknown error"]:
        print(f"fl-sim: error: {line}", file=sys.stderr)
    return code
