"""Jinja templates of the pages, by name.

In modules and not in files of their own, because Flower's bundle leaves out most kinds of files.
"""

from adversary.report.templates import (
    about,
    comparison,
    figures,
    gallery,
    leakage,
    macros,
    named,
    reading,
    report,
    style,
    summary,
    threat,
)

TEMPLATES = {
    "style": style.STYLE,
    "macros": macros.MACROS,
    "report.html": report.PAGE,
    "summary": summary.SECTION,
    "named": named.SECTION,
    "leakage": leakage.SECTION,
    "gallery": gallery.SECTION,
    "figures": figures.SECTION,
    "threat": threat.SECTION,
    "reading": reading.SECTION,
    "about": about.SECTION,
    "comparison.html": comparison.COMPARISON_PAGE,
}
