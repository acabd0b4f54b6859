"""Which tests a fault is tried with, and which lines get faults."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import mutants


@pytest.mark.parametrize(
    ("module", "tests"),
    [
        ("adversary/optim/levenberg_marquardt.py", ["test_levenberg_marquardt.py"]),
        ("adversary/identification/per_example.py", None),  # no file of its own: the folder's
        ("fl_sim/cli/app.py", ["test_app.py"]),
    ],
)
def test_the_tests_of_a_module_are_those_that_mirror_it(root, module, tests):
    found = mutants.mirrored(Path(module))
    folder = root / "tests" / Path(module).parent
    assert found == ([folder / name for name in tests] if tests else sorted(folder.glob("test_*")))


def test_a_folder_without_tests_is_tried_with_those_above(tmp_path):
    above = tmp_path / "adversary" / "test_all.py"
    above.parent.mkdir()
    above.touch()
    assert mutants.mirrored(Path("adversary/deep/down/module.py"), tmp_path) == [above]
    assert mutants.mirrored(Path("strategies/module.py"), tmp_path) == []


def test_only_modules_of_the_packages_that_differ_get_faults(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "ROOT", tmp_path)

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("adversary/a.py", "adversary/b.py", "fl_sim/gone.py", "tests/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "strategies").mkdir()
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    for name in ("adversary/a.py", "tests/c.py"):
        (tmp_path / name).write_text("x = 2\n")
    (tmp_path / "fl_sim/gone.py").unlink()
    assert mutants.changed("HEAD") == [Path("adversary/a.py")]
