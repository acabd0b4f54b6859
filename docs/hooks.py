"""What mkdocs does to pages: formulas as MathML, docstrings' roles."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?")


def on_page_content(content: str, **_: Any) -> str:
    """Turn TeX into MathML, which browsers draw without a script, and roles into plain code."""
    content = _ROLE.sub("<code>", content)
    return _FORMULA.sub(
        lambda m: convert(html.unescape(m[2]), display="block" if m[1] == "div" else "inline"),
        content,
    )
