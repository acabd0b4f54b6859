"""The package as it is installed from a wheel, in an empty folder, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from adversary.storage.run_folder import RunFolder
from helpers.checkouts import copied

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
BUNDLE = """
import fl_sim, io, zipfile
from flwr.cli.build import build_fab_from_disk
from fl_sim.engines.bundle import app_root, checkout
assert checkout() is None
with app_root() as folder:
    made = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder)))
print(fl_sim.__file__, len(made.namelist()))
"""
QUICK = [
    "--config", "quick", "--set", "adversary.attack=dlg", "--set", "adversary.dlg.iterations=1",
    "--set", "adversary.bounds=off", "--set", "adversary.identify=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def environment(root, tmp_path_factory):
    """An environment with the wheel of the checkout's commit; the rest is that of this one."""
    base = tmp_path_factory.mktemp("wheel")
    source, venv = copied(root, base / "source"), base / "venv"
    subprocess.run([sys.executable, "-c", BUILD, base], cwd=source, check=True, capture_output=True)
    shutil.rmtree(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    [wheel] = base.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python")]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return venv


def outcome(environment: Path, folder: Path, *words: str) -> str:
    """Return what a program of the environment prints in a folder."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    path = os.pathsep.join([str(environment / "bin"), clean.get("PATH", os.defpath)])
    done = subprocess.run(
        [str(environment / "bin" / words[0]), *words[1:]],
        cwd=folder, env={**clean, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_command_in_an_empty_folder_gives_a_report(environment, tmp_path):
    printed = outcome(environment, tmp_path, "fl-sim", "run", *QUICK, "--engine", "local")
    report = tmp_path / "results" / "run" / "report.html"
    assert str(report) in printed.splitlines()
    assert report.is_file()
    info = RunFolder.open(report.parent).info()
    assert (info["status"], info["revision"]) == ("completed", None)


def test_what_flower_is_given_is_made_of_the_installed_package(environment, tmp_path):
    printed = outcome(environment, tmp_path, "python", "-c", BUNDLE)
    place, count = printed.split()
    assert Path(place).is_relative_to(environment)
    assert int(count) > 300
