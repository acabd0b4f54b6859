"""The page that explains the flags says what the program says."""

import re
import subprocess
import sys
from pathlib import Path

from adversary.report.flags import FLAGS, PAGE, page

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_page_is_up_to_date():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page()


def test_the_module_prints_the_page():
    done = subprocess.run(
        [sys.executable, "-m", "adversary.report.flags"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.decode() == page()


def test_every_flag_has_a_heading_with_meaning_example_and_action():
    headings = re.findall(r"^## (.+)$", page(), re.M)
    assert headings == list(FLAGS)
    for name, part in zip(FLAGS, page().split("\n## ")[1:], strict=True):
        flag = FLAGS[name]
        assert flag.meaning and flag.example and flag.action  # noqa: PT018
        assert [text in part for text in (flag.title, flag.meaning, flag.example, flag.action)] == (
            [True] * 4
        )


def test_names_can_stand_in_a_column_of_several():
    assert [name for name in FLAGS if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


def test_the_page_is_in_the_documentation():
    assert "- Flags: flags.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
