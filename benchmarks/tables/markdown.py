"""Numbers and tables as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown already.

    Raises
    ------
    ValueError
        If a row has another number of cells than the head.
    """
    body = list(rows)
    for row in body:
        if len(row) != len(head):
            raise ValueError(f"{len(row)} cells in a row of a table of {len(head)}: {row}")
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body])


def number(value: float | None, digits: int = 1) -> str:
    """Return a number with so many decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def share(value: float | None) -> str:
    """Return a share as a percentage; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"


def fraction(value: float, digits: int = 2) -> str:
    """Return a number of magnitude below one without its leading zero: .95, -.03; never -.00."""
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def seconds(value: float | None) -> str:
    """Return whole seconds; nothing where they were not measured."""
    return "" if value is None else f"{value:,.0f}"


def escaped(value: str) -> str:
    """Return text that stays text in a cell."""
    return "".join(f"\\{sign}" if sign in r"\|<>[]*_`$" else sign for sign in value)
