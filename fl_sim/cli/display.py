"""A run's progress on the terminal: lines that stay, and one that moves while one waits."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fl_sim.cli.log_filter import LogFilter


class Display:
    """Shows what of a run's output a person wants to see; all of it if ``verbose``.

    On a terminal a last line moves, with the time since the start; elsewhere there are only
    plain lines. Progress goes to stdout, warnings to stderr.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._narrator = LogFilter()
        # Bound now: what redirects stdout later means the run's own output, not this.
        self._out = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._err = Console(highlight=False, soft_wrap=True, stderr=True)
        self._spinner = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._out,
            transient=True,
            disable=verbose or not self._out.is_terminal,
        )
        self._task = self._spinner.add_task("")

    def __enter__(self) -> Self:
        self._spinner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._spinner.stop()

    def say(self, text: str) -> None:
        """Show a line of progress."""
        self._out.print(text, markup=False)
        self.move(text)

    def move(self, text: str) -> None:
        """Show what goes on in the line that moves; nothing of it stays."""
        self._spinner.update(self._task, description=text)

    def progress(self, name: str, share: float) -> None:
        """Show how much of something is done."""
        self.move(f"{name}: {share:.0%}")

    def hear(self, line: str, *, passing: bool = False) -> None:
        """Take one line of the run's output; its progress stays unless it is ``passing``."""
        if self._verbose:
            self._out.print(line, markup=False)
            return
        remark = self._narrator(line)
        if remark is None:
            return
        if remark.kind == "progress":
            (self.move if passing else self.say)(remark.text)
        else:
            self._err.print(f"warning: {remark.text}", style="yellow", markup=False)
