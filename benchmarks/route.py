"""The files that a reply passes on its way to a row of leakage.csv, in order of their first call.

``python -m benchmarks route`` runs a small federation in this process, DLG in line and without
identification, and prints each file of the project in which something is called from
``HonestButCurious.aggregate_train`` on, with a star the spine: the files of the calls that lead to
:data:`ENDS`, which is what a reader follows; the others are helpers of theirs. The last line is
JSON {"files": [...], "spine": [...]}. docs/architecture.md has both, which a test checks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from benchmarks import common
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.parse import parse
from strategies.honest_but_curious import HonestButCurious

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adversary", "strategies", "fl_sim")

BEGIN = HonestButCurious.aggregate_train.__code__

ENDS = {
    ("fl_sim/models/classifier.py", "forward"),
    ("adversary/scoring/metrics.py", "psnr"),
    ("adversary/storage/csv_table.py", "append"),
}
"""Where candidate images pass the network, are scored, and become a row."""

SETTINGS: dict[str, str | int | bool] = {
    "clients": 1,
    "rounds": 1,
    "model.name": "lenet",
    "data.num-images": 24,
    "data.image-size": 16,
    "adversary.attack": "dlg",
    "adversary.options": "dlg.iterations=3",
    "adversary.bounds": "off",
    "adversary.identify": False,
}


FOLDERS = tuple(f"{ROOT / package}/" for package in PACKAGES)


def file_of(frame: FrameType) -> str | None:
    """Return the file of the project, below its root, whose function is called."""
    name = frame.f_code.co_filename
    if not name.startswith(FOLDERS) or frame.f_code.co_name == "<module>":
        return None
    return Path(name).relative_to(ROOT).as_posix()


def files_below(frame: FrameType) -> list[str]:
    """Return the files of a call and of those that it is called from, up to the strategy's."""
    found: list[str] = []
    at: FrameType | None = frame
    while at is not None:
        if file := file_of(at):
            found.append(file)
        if at.f_code is BEGIN:
            return found
        at = at.f_back
    return []


@contextmanager
def files_called(found: list[str], spine: set[str]) -> Iterator[None]:
    """Append each file when something in it is first called; add those of calls to an end."""

    def note(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not (file := file_of(frame)):
            return
        if file not in found:
            found.append(file)
        if (file, frame.f_code.co_name) in ENDS:
            spine.update(files_below(frame))

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def route() -> tuple[list[str], list[str]]:
    """Return the files from replies to their rows, in order of first call, and the spine."""
    import_module("torchmetrics.functional.image")  # twice as slow once calls are noted
    found: list[str] = []
    spine: set[str] = set()
    aggregate = HonestButCurious.aggregate_train

    def watched(self: HonestButCurious, *arguments: Any) -> Any:
        with files_called(found, spine):
            return aggregate(self, *arguments)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(HonestButCurious, "aggregate_train", watched),
        # What comes after the rows, and a network of others, take longer than all the rest.
        mock.patch("adversary.report.run_page.render"),
        mock.patch("adversary.scoring.scorer.load_lpips", return_value=(None, "not on the route")),
    ):
        run_in_process(parse({**SETTINGS, "out": str(Path(folder) / "run")}))
    return found, [file for file in found if file in spine]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found, spine = route()
    print("\n".join(f"{'*' if file in spine else ' '} {file}" for file in found))
    common.json_line({"files": found, "spine": spine})


if __name__ == "__main__":
    main()
