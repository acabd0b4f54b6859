from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from fl_sim.cli import shipped
from fl_sim.cli.app import main
from fl_sim.cli.options import UsageError, read_config


def test_those_of_a_checkout(root):
    assert {path.name for path in shipped.shipped().values()} == {
        path.name for path in (root / "configs").glob("*.toml")
    }


@pytest.mark.parametrize("name", ["demo", "demo.toml", "configs/demo.toml"])
def test_one_is_found_by_its_name_from_anywhere(name, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = read_config(root / "configs" / "demo.toml")
    assert wanted["adversary.attack"] == "standard"
    assert read_config(Path(name)) == wanted


def test_a_file_on_disk_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo.toml").write_text("rounds = 7")
    assert read_config(Path("demo.toml")) == {"rounds": 7}


@pytest.mark.parametrize("name", ["no-such", "elsewhere/demo.toml", "../demo"])
def test_what_is_neither_is_a_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        read_config(Path(name))


def test_without_a_checkout_they_are_those_of_the_package(tmp_path, monkeypatch):
    there = tmp_path / "share" / "fl-sim" / "configs"
    there.mkdir(parents=True)
    (there / "quick.toml").write_text("rounds = 2")

    class File(type(Path())):
        def locate(self):
            return tmp_path / self

    monkeypatch.setattr(shipped, "checkout", lambda: None)
    monkeypatch.setattr(
        metadata,
        "files",
        lambda name: [File("share/fl-sim/configs/quick.toml"), File("fl_sim/cli/app.py")],
    )
    assert shipped.shipped() == {"quick": there / "quick.toml"}


def test_they_are_in_the_wheel(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["data-files"] == {
        "share/fl-sim/configs": ["configs/*.toml"]
    }


def test_the_demo_is_a_run_of_its_settings(monkeypatch, tmp_path):
    from fl_sim.cli import app

    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(app.ENGINES, app.Engine.local, lambda settings, hear: ran.append(settings))
    monkeypatch.setattr(app, "conclude", lambda *given: None)  # there is no run to judge
    assert main(["demo", "--engine", "local"]) == 0
    [settings] = ran
    assert (settings.rounds, settings.clients, settings.data.name) == (3, 4, "sample")
    assert settings.out == str(tmp_path / "results" / "demo")
