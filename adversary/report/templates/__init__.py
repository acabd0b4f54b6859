"""Jinja templates of the pages, by name.

In modules and not in files of their own, because Flower's bundle leaves out most kinds of files.
"""

from adversary.report.templates import (
    about,
    comparison,
    figures,
    first_page,
    gallery,
    guard,
    history,
    leakage,
    macros,
    named,
    next_steps,
    printing,
    reading,
    report,
    style,
    summary,
    threat,
)

TEMPLATES = {
    "style": style.STYLE,
    "print": printing.STYLE,
    "macros": macros.MACROS,
    "report.html": report.PAGE,
    "first page": first_page.SECTION,
    "sign": first_page.SIGN,
    "next steps": next_steps.SECTION,
    "summary": summary.SECTION,
    "named": named.SECTION,
    "leakage": leakage.SECTION,
    "gallery": gallery.SECTION,
    "figures": figures.SECTION,
    "threat": threat.SECTION,
    "reading": reading.SECTION,
    "about": about.SECTION,
    "history.html": history.HISTORY_PAGE,
    "guard.html": guard.GUARD_PAGE,
    "comparison.html": comparison.COMPARISON_PAGE,
}
