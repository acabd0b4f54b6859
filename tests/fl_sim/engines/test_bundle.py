"""The app that Flower bundles, from a checkout and without one."""

from __future__ import annotations

import importlib
import io
import tomllib
import zipfile

import pytest
from flwr.cli.build import build_fab_from_disk

import fl_sim
from fl_sim.engines.bundle import app_root, checkout, write_app
from helpers.checkouts import copied


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As where the package lies in site-packages."""
    monkeypatch.setattr(fl_sim, "__file__", str(tmp_path / "site-packages/fl_sim/__init__.py"))


def test_a_checkout_is_the_app(root):
    with app_root() as folder:
        assert folder == checkout() == root


def test_an_installed_package_makes_its_app_on_the_spot(root, monkeypatch, installed):
    assert checkout() is None
    monkeypatch.setattr(fl_sim, "__file__", str(root / "fl_sim/__init__.py"))
    monkeypatch.setattr("fl_sim.engines.bundle.checkout", lambda: None)
    with app_root() as folder:
        assert folder != root
        with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder))) as made:
            there = set(made.namelist())
    assert not folder.exists()
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(root))) as bundle:
        code = {
            name
            for name in bundle.namelist()
            if name.startswith(("adversary/", "fl_sim/", "strategies/")) and name[-3:] != ".md"
        }
    assert code - there == set()


def test_its_project_is_that_of_the_checkout(root, tmp_path):
    write_app(tmp_path)
    made = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    own = tomllib.loads((root / "pyproject.toml").read_text())
    assert made["tool"]["flwr"] == own["tool"]["flwr"]
    assert (
        made["project"].items()
        >= {
            key: own["project"][key] for key in ("name", "version", "description", "license")
        }.items()
    )
    assert made["project"]["dependencies"] == []  # nothing is installed anew in every run


@pytest.mark.parametrize("source", ["installed package", "checkout"])
def test_flower_s_hub_takes_it(source, root, tmp_path):
    """Flower's own checks before an upload: description, kinds, number and sizes of files."""
    publish = importlib.import_module("flwr.cli.app_cmd.publish")
    app = tmp_path / "fl-sim"
    if source == "checkout":
        copied(root, app)
    else:
        app.mkdir()
        write_app(app)
    config = tomllib.loads((app / "pyproject.toml").read_text())
    assert 0 < len(config["project"]["description"]) <= 200
    publish._validate_description(config["project"]["description"])
    publish._validate_app_name(app.name, "folder")
    files = publish._collect_file_paths(app)
    publish._validate_files(files)
    sent = {file.relative_to(app.resolve()).as_posix() for file in files}
    needed = {
        file.relative_to(app).as_posix()
        for package in ("adversary", "strategies", "fl_sim")
        for file in (app / package).rglob("*")
        if file.is_file() and file.name != "py.typed"
    }
    assert needed - sent == set()
