"""How a command ends: the verdict in a line, and an exit code that a pipeline can act on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

LEAKED = 3
"""Exit code where a verdict is at or above what ``--fail-on`` names."""


class FailOn(StrEnum):
    """From which verdict on a command fails."""

    visible = "visible"
    identifiable = "identifiable"
    open = "open"


FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        help=f"Exit with {LEAKED} if a patient is visible; or if one is identifiable or visible; "
        "or (open) unless all that was examined is protected."
    ),
]


def conclude(folder: Path, fail_on: FailOn | None = None) -> None:
    """Print what a run gave away in a line, if an attack has finished, and judge it.

    Raises
    ------
    typer.Exit
        With :data:`LEAKED`, if the verdict is one to fail on.
    """
    from adversary.report.summary import of_folder
    from adversary.scoring.verdict import Severity
    from adversary.storage.run_folder import RunFolder

    found = of_folder(RunFolder(folder))
    if found.images:
        print(found.line())
    failing = {
        None: False,
        FailOn.visible: found.level >= Severity.VISIBLE,
        FailOn.identifiable: found.level >= Severity.IDENTIFIABLE,
        FailOn.open: found.level is not Severity.PROTECTED,
    }
    if failing[fail_on]:
        raise typer.Exit(LEAKED)
