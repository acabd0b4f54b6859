"""Pages of prose with figures looked up in the results."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.tables import markdown

WIDTH = 110
"""Of a line of prose."""

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,  # a figure that is not there must not become nothing
    autoescape=False,  # Markdown, of this project's own text
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_PAGES.filters |= {
    "db": markdown.number,
    "share": markdown.share,
    "fraction": markdown.fraction,
    "seconds": markdown.seconds,
}


def render(template: str, **values: Any) -> str:
    """Return a template of benchmarks/tables/templates with its placeholders filled.

    Raises
    ------
    jinja2.UndefinedError
        If the template asks for a value that is not given.
    """
    blocks = _PAGES.get_template(template).render(values).strip().split("\n\n")
    return "\n\n".join(map(_filled, blocks)) + "\n"


def _filled(block: str) -> str:
    """Return a paragraph in even lines, with no break in code; anything else as it is."""
    block = block.strip("\n")
    if block.startswith(("#", "|", "-", "!", "<", "```")):
        return block
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), block)
    filled = textwrap.fill(whole, WIDTH, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\0", " ")
