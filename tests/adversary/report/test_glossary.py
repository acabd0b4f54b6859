"""The glossary of the documentation is that of the program, and the report links to it."""

import re
from pathlib import Path

import pytest

from adversary.report import run_page
from adversary.report.glossary import GLOSSARY, PAGE, page
from adversary.report.templating import format_number, linked
from helpers.kinds_of_runs import KINDS

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_page_is_up_to_date():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page()


def test_every_term_has_a_heading_with_its_anchor():
    assert re.findall(r"\{#([a-z0-9]+)\}$", page(), re.M) == list(GLOSSARY)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(332548424124.3, "3.3e+11"), (999_999.0, "999999.00"), (0.004, "4.0e-03"), (-20.0, "−20.00")],
)
def test_figures_of_many_digits_are_told_in_powers_of_ten(value, shown):
    assert format_number(value) == shown


def test_the_first_of_each_word_is_linked_and_text_stays_escaped():
    found = linked("<b>12 dB</b>, up to 20 dB by a bound & no update")
    assert found.count('href="#term-psnr"') == 1
    assert 'href="#term-bound">bound</a> &amp; no' in found
    assert found.startswith("&lt;b&gt;12 <a")
    assert re.sub(r"</?a[^>]*>", "", found) == (
        "&lt;b&gt;12 dB&lt;/b&gt;, up to 20 dB by a bound &amp; no update"
    )


def test_every_term_is_linked_from_a_report(tmp_path, check):
    pages = [check(run_page.render(write(tmp_path / kind))) for kind, write in KINDS.items()]
    linked_to = {link.removeprefix("#term-") for page in pages for link in page.links}
    assert set(GLOSSARY) - linked_to == set()


def test_the_page_is_in_the_documentation():
    assert "- Glossary: glossary.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
