"""The files that a reply passes on its way to a row of leakage.csv, in order of their first call.

``python -m benchmarks route`` runs a small federation in this process, DLG in line and without
identification, and prints each file of the project in which something is called from
``HonestButCurious.aggregate_train`` on. The last line is JSON {"files": [...]}.
docs/architecture.md has them by step, which a test checks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def files_called(found: list[str]) -> Iterator[None]:
    """Append each file of the project, below its root, when something in it is first called."""
    folders = tuple(f"{ROOT / package}/" for package in PACKAGES)

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(folders) and frame.f_code.co_name != "<module>":
            file = Path(name).relative_to(ROOT).as_posix()
            if file not in found:
                found.append(file)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def route() -> list[str]:
    """Return the files from the replies of a round to its rows, in order of their first call."""
    found: list[str] = []
    aggregate = HonestButCurious.aggregate_train

    def watched(self: HonestButCurious, *arguments: Any) -> Any:
        with files_called(found):
            return aggregate(self, *arguments)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(HonestButCurious, "aggregate_train", watched),
        # What comes after the rows, and a network of others, take longer than all the rest.
        mock.patch("adversary.report.run_page.render"),
        mock.patch("adversary.scoring.scorer.load_lpips", return_value=(None, "not on the route")),
    ):
        run_in_process(parse({**SETTINGS, "out": str(Path(folder) / "run")}))
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found = route()
    print("\n".join(found))
    common.json_line({"files": found})


if __name__ == "__main__":
    main()
