"""The EncGradInversion paper's tables and time figure, measured beside the published ones.

    python -m benchmarks paper --table IX --data cifar-100-python.tar.gz
    python -m benchmarks paper --table all --quick --data cifar100=FILE --data lfw=DIR \
        --data imagenet=DIR
    python -m benchmarks paper --table time --data cifar-100-python.tar.gz --peer CLONE

Dao and Lee 2025. III: error of the encodings. IV, V, VI: EncGradInversion by network on CIFAR-100,
LFWPeople and ImageNet. VII, VIII: after phase 2 and after phase 3. IX: five attacks. time: of the
attack, by batch. Weights are untrained, labels distinct (up to the classes) and known, gradients
float32. A row is the mean over several batches, so that small ones have at least 8 images in all.
``seconds`` is processor time of one batch; that of the authors' code is what it says itself.

Rows are appended to ``--out`` as soon as they are known, and none that is there is made again; the
pictures of original and recovered images lie beside it. ``--quick`` takes fewer and smaller
batches at 32 pixels, and fewer steps where an attack needs minutes; its rows say so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Shown

from adversary.common.errors import UserError, one_line_error
from benchmarks import common
from benchmarks.encgradinversion import authors, pictures
from benchmarks.encgradinversion.cells import AUTHORS, METHODS, MODELS, TABLES, Cell, Choice
from benchmarks.encgradinversion.datasets import DATASETS, ImageSet
from benchmarks.encgradinversion.errors import PaperError
from benchmarks.encgradinversion.growth import growth
from benchmarks.encgradinversion.protocol import (
    MEASUREMENTS,
    Measured,
    Measurement,
    authors_code,
    measure,
)
from benchmarks.encgradinversion.published import MEASURES, behind, published
from benchmarks.encgradinversion.selection import Selection
from strategies.time_left import TimeLeft, Work

Row = dict[str, Any]
OUT = Path("results/paper/rows.jsonl")
SHOWN = ("model", "size", "batch", "method")
PROGRESS = Console(stderr=True, width=160)


def parser() -> argparse.ArgumentParser:
    """Return what the command takes."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--table", choices=[*TABLES, "all"], required=True)
    made.add_argument("--dataset", choices=DATASETS, help="of those that a table is on; else all")
    made.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="the set as it is published, or an npz file of images in its place",
    )
    made.add_argument("--index", type=Path, help="which images: lines of indices, one a batch")
    made.add_argument("--seed", type=int, default=common.SEED, help="of images and attacks")
    made.add_argument("--size", type=common.counts, default=[], help="sides in pixels, e.g. 32,64")
    made.add_argument("--batch", type=common.counts, default=[], help="e.g. 1,8,512")
    made.add_argument("--model", help=f"some of {', '.join(MODELS)}")
    made.add_argument("--method", help=f"some of {', '.join(METHODS)}")
    made.add_argument("--images", type=int, help="a row's, at least; the mean is over them")
    made.add_argument("--options", default="", help="of the attacks: 'iterations=100 restarts=2'")
    made.add_argument("--quick", action="store_true", help="every table, in minutes")
    made.add_argument("--peer", type=Path, help="clone of the authors' code, for the time figure")
    made.add_argument("--peer-timeout", type=float, default=3600, help="seconds")
    made.add_argument("--out", type=Path, default=OUT, help="JSON lines to go on with")
    return made  # fmt: skip


def choice(given: argparse.Namespace) -> Choice:
    """Return what of the tables the arguments ask for.

    Raises
    ------
    PaperError
        If they name what there is not.
    """
    tables = tuple(TABLES) if given.table == "all" else (given.table,)
    for option, values in (("--size", given.size), ("--batch", given.batch)):
        if wrong := [value for value in values if value < 1]:
            raise PaperError(f"{option} {wrong[0]}: must be at least 1")
    if given.images is not None and given.images < 1:
        raise PaperError(f"--images {given.images}: must be at least 1")
    return Choice(
        tables=tables,
        datasets=(given.dataset,) if given.dataset else (),
        models=_names("--model", given.model, MODELS),
        methods=_names("--method", given.method, METHODS),
        batches=tuple(given.batch),
        sizes=tuple(given.size),
        images=given.images,
        quick=given.quick,
        seed=given.seed,
        options=given.options,
        index="" if given.index is None else given.index.name,
        peer=given.peer is not None,
    )


def main() -> None:
    """Make the rows that are not there yet, and show them beside the published ones."""
    given = parser().parse_args()
    common.threads()
    try:
        if given.peer is not None:
            authors.check(given.peer)
        wanted = choice(given)
        sets, failures = opened(given, wanted)
        cells = list(wanted.cells({name: one.name for name, one in sets.items()}))
        if not cells and not failures:
            raise PaperError(f"--table {given.table}: no rows of this set, model and method")
        selections = {
            DATASETS[name].title: Selection.of(images, given.seed, given.index)
            for name, images in sets.items()
        }
        for cell in cells:  # before anything is attacked
            selections[cell.dataset].indices(cell.batch, cell.batches - 1)
    except UserError as error:
        raise SystemExit(one_line_error(error)) from None
    failures += make(cells, selections, given)
    rows = [row for row in common.read_rows(given.out) if Cell.key_of(row) in _keys(cells)]
    for table in dict.fromkeys(row["table"] for row in rows):
        own = [row for row in rows if row["table"] == table]
        show(own)
        if table == "time":
            show_growth(own, given.out.with_name("time.png"))
    common.json_line({"rows": str(given.out), "made": len(rows), "failed": len(failures)})
    sys.exit(int(bool(failures)))


def opened(given: argparse.Namespace, wanted: Choice) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the sets that the tables are on, and a line for each that cannot be read.

    Raises
    ------
    PaperError
        If none can be read, or a path is given for a set that is not asked for.
    """
    on = [name for table in wanted.tables for name in TABLES[table].datasets]
    names = [name for name in dict.fromkeys(on) if not wanted.datasets or name in wanted.datasets]
    if not names:
        raise PaperError(
            f"--dataset {given.dataset}: table {given.table} is on {', '.join(dict.fromkeys(on))}"
        )
    paths = _paths(given.data, names)
    sets, failures = {}, []
    for name in names:
        try:
            sets[name] = DATASETS[name].images(paths.get(name))
        except PaperError as error:
            if len(names) == 1:
                raise
            failures.append(str(error))
            PROGRESS.print(f"{name} is left out: {error}", markup=False, soft_wrap=True)
    if not sets:
        raise PaperError("no set could be read")
    return sets, failures


def make(
    cells: Sequence[Cell], selections: Mapping[str, Selection], given: argparse.Namespace
) -> list[str]:
    """Measure the rows that the file does not hold yet; return a line for each that failed."""
    done = {Cell.key_of(row) for row in common.read_rows(given.out)}
    left = [cell for cell in cells if cell.key() not in done]
    clock = TimeLeft()
    clock.begin()
    clock.expect(_work(cell) for cell in left)
    failures = []
    for cell in left:
        whose = f"{cell.table}: {cell.dataset}, {cell.model}, {cell.size} px, batch {cell.batch}"
        whose = f"{clock.position()} · {whose}, {cell.method}"
        began = time.monotonic()
        try:
            with PROGRESS.status(whose) as status:
                row, found = measure(
                    cell, selections[cell.dataset], _measurement(cell, given),
                    lambda share, s=status, w=whose: s.update(f"{w}: {share:.0%}"),
                )  # fmt: skip
        except UserError as error:
            failures.append(one_line_error(error))
            told = failures[-1]
        else:
            common.append_row(given.out, row)
            _draw(cell, row, found[0], given.out.parent / "pictures")
            told = ", ".join(f"{m} {row[m]:.3g}" for m in MEASURES if row.get(m) is not None)
            told += f", {row['peak_mib']:.0f} MiB"
        line = " · ".join(
            filter(None, (f"{whose}: {told}", clock.finish(*_work(cell), time.monotonic() - began)))
        )
        PROGRESS.print(line, markup=False, highlight=False, soft_wrap=True)
    return failures


def _work(cell: Cell) -> Work:
    """Return what kind of work a row is: of what, and by which method."""
    return f"{cell.model}, {cell.size} px, batch {cell.batch}", cell.method


def show(rows: Sequence[Row]) -> None:
    """Print the rows of a table, with the published values in brackets."""
    first = rows[0]
    sets = sorted({f"{row['data']} for {row['dataset']}" for row in rows})
    shown = Shown(title=f"Table {first['table']}, {TABLES[first['table']].title}: "
                        f"measured (published); {first['effort']}, {', '.join(sets)}")  # fmt: skip
    known = (*MEASURES, "relative_mse")
    measures = [m for m in known if any(row.get(m) is not None for row in rows)]
    for name in ("dataset", *SHOWN, *measures, "MiB", "behind in"):
        shown.add_column(name)
    for row in rows:
        paper = published(row)
        cells = [_cell(row.get(m), paper.get(m)) for m in measures]
        about = [row["dataset"], *(str(row[name]) for name in SHOWN)]
        shown.add_row(*about, *cells, f"{row['peak_mib']:.0f}", ", ".join(behind(row)))
    PROGRESS.print(shown)


def show_growth(rows: Sequence[Row], picture: Path) -> None:
    """Print how the time of each method grows with the batch, and draw it."""
    for method, own in _by_method(rows):
        if len(own) > 1:
            fit = growth([row["batch"] for row in own], [row["seconds"] for row in own])
            PROGRESS.print(
                f"{method}: {fit.fixed:.2g} s and {fit.each:.2g} s an image; grows with the "
                f"batch to the power of {fit.exponent:.2f}",
                highlight=False,
            )
    pictures.draw_times(rows, picture)


def _by_method(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for method in dict.fromkeys(row["method"] for row in rows):
        yield method, [row for row in rows if row["method"] == method]


def _measurement(cell: Cell, given: argparse.Namespace) -> Measurement:
    if cell.method == AUTHORS:
        return authors_code(given.peer.resolve(), given.peer_timeout)
    return MEASUREMENTS[TABLES[cell.table].measure]


def _draw(cell: Cell, row: Row, first: Measured, folder: Path) -> None:
    if first.found is not None:
        title = f"{cell.method}: SSIM {row['ssim']:.3f}, PSNR {row['psnr']:.1f} dB"
        pictures.draw_batch(first.truths, first.found, title, folder / pictures.file_name(cell))


def _cell(value: float | None, paper: float | None) -> str:
    text = "" if value is None else f"{value:.3g}"
    return text if paper is None else f"{text} ({paper:.3g})"


def _keys(cells: Sequence[Cell]) -> set[tuple[Any, ...]]:
    return {cell.key() for cell in cells}


def _names(option: str, text: str | None, known: Mapping[str, Any]) -> tuple[str, ...]:
    chosen = tuple(text.split(",")) if text else ()
    if unknown := [name for name in chosen if name not in known]:
        raise PaperError(f"{option} {unknown[0]}: must be of {', '.join(known)}")
    return chosen


def _paths(given: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """Return the path of each set; one without a name is of the only set that is asked for."""
    found = {}
    for text in given:
        name, named, path = text.partition("=")
        if not named or name not in DATASETS:
            if len(names) > 1:
                raise PaperError(f"--data {text}: which set? NAME=PATH, of {', '.join(names)}")
            name, path = names[0], text
        found[name] = Path(path).expanduser()
    return found


if __name__ == "__main__":
    main()
