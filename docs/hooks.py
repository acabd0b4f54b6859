"""What mkdocs does to pages: formulas as MathML, docstrings' roles, the README's settings."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

SETTINGS = "<!-- settings -->"
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?")
_TABLE = re.compile(r"<!-- settings: .*? -->\n(.*?)<!-- end of settings -->", re.S)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the README's table of settings where a page asks for it."""
    if SETTINGS not in markdown:
        return markdown
    found = _TABLE.search(Path("README.md").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("README.md has no table of settings")
    return markdown.replace(SETTINGS, found[1])


def on_page_content(content: str, **_: Any) -> str:
    """Turn TeX into MathML, which browsers draw without a script, and roles into plain code."""
    content = _ROLE.sub("<code>", content)
    return _FORMULA.sub(
        lambda m: convert(html.unescape(m[2]), display="block" if m[1] == "div" else "inline"),
        content,
    )
