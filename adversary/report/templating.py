"""Pages from Jinja templates: escaping, figures for reading, and a policy that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from functools import lru_cache

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from adversary.report.glossary import GLOSSARY
from adversary.report.templates import TEMPLATES

LARGE = 1e6
"""From where a figure is told in powers of ten."""


@lru_cache
def template(name: str) -> Template:
    """Return a page of :data:`~adversary.report.templates.TEMPLATES`; what it shows is escaped."""
    return _environment().get_template(name)


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = format_number
    environment.filters["epsilon"] = epsilon
    environment.filters["percent"] = percent
    environment.filters["linked"] = linked
    environment.filters["css"] = css_string
    environment.globals["policy"] = content_security_policy
    return environment


def format_number(value: float | None, digits: int = 2) -> str:
    """Return a figure for reading: a dash where missing, small and large ones in powers of ten."""
    if value is None:
        return "–"
    if isinstance(value, float) and not math.isfinite(value):
        return "exact" if value > 0 else "–"
    if value and not 0.5 * 10.0**-digits <= abs(value) < LARGE:
        return f"{value:.1e}"
    return f"{value:.{digits}f}".replace("-", "−")


def epsilon(value: float | None) -> str:
    """Return a privacy loss for reading; it is infinite without noise."""
    if value is None:
        return "–"
    return "∞" if math.isinf(value) else f"{value:.3g}"


def percent(share: float | None) -> str:
    """Format a share; small non-zero values never round to 0 %."""
    if share is None:
        return "–"
    return "under 1%" if 0 < share < 0.005 else f"{share:.0%}"


def content_security_policy(script: str) -> str:
    """Return a content security policy: nothing from a network, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'")
    return "; ".join((*allowed, f"script-src 'sha256-{digest}'"))


def linked(text: str) -> Markup:
    """Return a sentence, escaped, in which the first of each glossary word links to its entry."""
    told: set[str] = set()

    def link(found: re.Match[str]) -> str:
        slug = str(found.lastgroup)
        if slug in told:
            return found[0]
        told.add(slug)
        return f'<a class="term" href="#term-{slug}">{found[0]}</a>'

    return Markup(_words().sub(link, str(escape(text))))


@lru_cache
def _words() -> re.Pattern[str]:
    spotted = (f"(?P<{slug}>{one.spotted})" for slug, one in GLOSSARY.items() if one.spotted)
    return re.compile(rf"(?<![&\w])(?:{'|'.join(spotted)})\b")


def css_string(text: str) -> Markup:
    """Return a text for a double-quoted string of a style sheet within a page."""
    return Markup("".join(c if c.isalnum() or c in " .,:-()" else f"\\{ord(c):x} " for c in text))
