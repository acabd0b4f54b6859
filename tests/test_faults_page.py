"""docs/faults.md and docs/reading-data.md promise nothing that no test does."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {page: (ROOT / "docs" / page).read_text() for page in ("faults.md", "reading-data.md")}
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", "".join(PAGES.values()))))


@pytest.mark.parametrize("page", PAGES)
def test_the_page_names_a_test_for_every_fault(page):
    rows = re.findall(r"^\| (?!fault|kind|---).*$", PAGES[page], re.M)
    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row and "the same test" not in row] == []
    assert len(NAMED) >= len(rows) - 1


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_that_the_page_names_exists(file, name):
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    assert name in {node.name for node in body if isinstance(node, ast.FunctionDef)}
