"""A test that is skipped for a reason of its own fails the suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from helpers.skips import is_allowed

SKIPS = re.compile(r"""(?:pytest\.skip\(|(?:skipif|importorskip)\([^@]{0,120}?reason=)f?"([^"]+)""")


def suite(folder, root, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(f"import pytest\n{text}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "helpers.skips", "-p", "no:cacheprovider",
         "-p", "xdist.plugin", "--rootdir", str(folder), *options, str(folder)],
        env={**os.environ, "PYTHONPATH": str(root / "tests"),
             "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others take a second to load
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def test_it(): pytest.skip('no CUDA GPU here')", 0),
        ("def test_it(): pytest.skip('no CUDA GPU here, maybe')", 1),
        ("@pytest.mark.skip(reason='slow')\ndef test_it(): pass\ndef test_other(): pass", 1),
        ("@pytest.mark.xfail(reason='known')\ndef test_it(): assert False", 0),
        ("pytest.importorskip('no_such_module')\ndef test_it(): pass", 1),
        ("def test_it(): pass", 0),
    ],
)
def test_a_skip_that_is_not_on_the_list_fails_the_suite(tmp_path, root, text, code):
    done = suite(tmp_path, root, text)
    if "importorskip" not in text:
        assert done.returncode == code, done.stdout
    # A file that is skipped whole leaves nothing to run, which pytest has a code for.
    assert (done.returncode == 0) == (code == 0)
    assert ("does not allow" in done.stdout) == (code == 1)


def test_a_skip_in_a_worker_counts(tmp_path, root):
    done = suite(tmp_path, root, "def test_it(): pytest.skip('slow')", "-n", "1")
    assert done.returncode == 1
    assert "test_it.py::test_it: slow" in done.stdout


def test_every_reason_in_the_tests_is_on_the_list(root):
    found = set()
    for file in (root / "tests").rglob("*.py"):
        if file.name != "test_skips.py":
            found |= set(SKIPS.findall(file.read_text(encoding="utf-8")))
    assert "chromium is not installed" in found
    for reason in found:
        assert is_allowed(re.sub(r"\{[^}]*\}", "mlflow", reason)), reason
