"""Every command, settings file and program in the documentation is tried, or at least read."""

import argparse
import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import typer

from adversary.attacks import ATTACKS
from adversary.storage.run_folder import RunFolder
from benchmarks.__main__ import benchmarks
from fl_sim.cli import app as cli
from fl_sim.cli import options
from fl_sim.data import DATASETS
from fl_sim.defences import DEFENCES
from fl_sim.models import MODELS
from fl_sim.offline import comparison
from fl_sim.offline.reattack import CHANGEABLE
from fl_sim.settings.declared import declared_settings
from fl_sim.settings.parse import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
REGISTRIES = (ATTACKS, DATASETS, DEFENCES, MODELS)
FENCE = re.compile(r"^```(\w+)(?: title=\"([\w.-]+)\")?\n(.*?)^```", re.M | re.S)


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Return (title, text) of the page's blocks in a language."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [(title, text) for kind, title, text in found if kind == language]


def commands(page):
    """Yield every command of a page as words."""
    for _, text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]  # a variable of the environment
            if words:
                yield words


def settings_of(given):
    """Return the settings that a parsed command names, by file and by ``--set``."""
    config = given.get("config")
    return options.read_config(config and Path(config)) | options.parse_changes(given["changes"])


def check_run(given):
    parse(settings_of(given))


def check_compare(given):
    comparison.plan(settings_of(given), {}, clients=cli.DEFAULT_CLIENTS)


def check_attack(given):
    changes = settings_of(given)
    if given["names"]:
        changes["adversary.attack"] = given["names"]
    assert all(key.startswith(CHANGEABLE) for key in changes)
    parse(changes)


def check_audit(given):
    named = {"model": "model.name", "lr": "local.lr", "names": "adversary.attack",
             "batch_size": "local.batch-size", "loss": "model.loss"}  # fmt: skip
    parse(settings_of(given) | {k: given[n] for n, k in named.items() if given[n] is not None})


def check_identify(given):
    assert str(given["folder"]).startswith("results/")
    assert not given["candidates"]  # a file that the page would have to make first


CHECKS = {
    "run": check_run, "compare": check_compare, "attack": check_attack, "audit": check_audit,
    "identify": check_identify,
}  # fmt: skip
"""Of commands that compute: that they name what there is. The others are run."""


def check_fl_sim(words):
    if (name := words[0]) in CHECKS:
        command = typer.main.get_command(cli.app).commands[name]
        CHECKS[name](command.make_context(name, list(words[1:])).params)
        return
    if name == "report":
        for folder in [Path(word) for word in words if word.startswith("results/")]:
            if not folder.exists() and words[words.index(str(folder)) - 1] != "--out":
                RunFolder.create(folder)
    assert cli.main(words) == 0


def check_make(words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert [word for word in words if "=" not in word] in [[target] for target in targets]


def check_python(words):
    assert words[0] == "-m"
    assert importlib.util.find_spec(words[1]) is not None
    if words[1] == "benchmarks" and words[2] != "--help":
        assert words[2] in benchmarks()


def check_flwr(words):
    from flwr.cli.app import app

    group = typer.main.get_command(app)
    given = group.commands[words[0]].make_context(words[0], list(words[1:])).params
    assert (ROOT / given["app"] / "pyproject.toml").exists()
    known = {one.key for one in declared_settings()}
    for pair in given["run_config_overrides"] or ():
        if pair.endswith(".toml"):
            parse(options.read_config(Path(pair)))
        else:
            assert not {key for key, _ in re.findall(r"([\w.-]+)=('[^']*'|\S+)", pair)} - known


def parsed_by(module, function):
    def check(words):
        parser: argparse.ArgumentParser = getattr(importlib.import_module(module), function)()
        parser.parse_args(words)

    return check


def check_ray(words):
    from ray.scripts.scripts import cli as ray

    ray.commands[words[0]].make_context(words[0], list(words[1:]))


def check_bash(words):
    assert (ROOT / words[0]).exists()


def check_pytest(words):
    paths = [
        word for before, word in itertools.pairwise(["", *words])
        if not word.startswith("-") and before != "-m"
    ]  # fmt: skip
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


PROGRAMS = {
    "fl-sim": check_fl_sim,
    "make": check_make,
    "python": check_python,
    "flwr": check_flwr,
    "flower-superlink": parsed_by(
        "flwr.superlink.cli.flower_superlink", "_parse_args_run_superlink"
    ),
    "flower-supernode": parsed_by(
        "flwr.supernode.cli.flower_supernode", "_parse_args_run_supernode"
    ),
    "ray": check_ray,
    "bash": check_bash,
    ".venv/bin/pytest": check_pytest,
    ".": lambda words: None,
}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder that looks like a checkout to relative paths, and takes what is written."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registries():
    """Take out again what a page has registered."""
    before = {id(one): set(one) for one in REGISTRIES}
    yield
    for one in REGISTRIES:
        for name in set(one) - before[id(one)]:
            del one[name]


@pytest.mark.parametrize("page", [p for p in PAGES if list(commands(p))], ids=name_of)
def test_every_command_is_one_that_there_is(page, elsewhere):
    for title, text in blocks(page, "toml"):
        if title:
            Path(title).write_text(text)
    for words in commands(page):
        try:
            PROGRAMS[words[0]](words[1:])
        except BaseException as error:
            error.add_note(shlex.join(words))
            raise


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "toml")], ids=name_of)
def test_every_settings_file_is_read(page):
    for _, text in blocks(page, "toml"):
        assert tomllib.loads(text)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_every_program_runs(page, elsewhere, registries):
    if page.name == "README.md":  # its parts belong to files of their own, tested elsewhere
        programs = [compile(text, page.name, "exec") for _, text in blocks(page, "python")]
        assert programs
        return
    namespace = {"__name__": "page"}
    for _, text in blocks(page, "python"):
        exec(compile(text, name_of(page), "exec"), namespace)


def test_the_tutorial_s_strategy_can_be_built(elsewhere):
    namespace = {"__name__": "page"}
    for _, text in blocks(ROOT / "docs" / "tutorial.md", "python"):
        exec(compile(text, "tutorial.md", "exec"), namespace)
    from flwr.serverapp.strategy import FedAvg

    net = namespace["Net"]()
    strategy = namespace["curious"](FedAvg(), net, image_shape=(1, 28, 28), batch_size=8)
    assert strategy.ledger.folder.path.is_dir()
    assert namespace["Net"]()(torch.zeros(1, 1, 28, 28)).shape == (1, 2)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_the_readme_fits_on_a_few_screens():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200


def names_in(page, heading):
    """Return the names that begin the rows of the first table below a heading."""
    text = page.read_text(encoding="utf-8").split(f"# {heading}\n", 1)[1].split("\n#")[0]
    return re.findall(r"^\| `([\w-]+)`", text, re.M)


@pytest.mark.parametrize(("heading", "registry"), [("Attacks", ATTACKS), ("Defences", DEFENCES)])
def test_every_attack_and_defence_has_a_line_in_the_readme_and_in_its_page(heading, registry):
    page = ROOT / "docs" / f"{heading.lower()}.md"
    for place in (ROOT / "README.md", page):
        names = names_in(place, heading)
        assert sorted(names) == sorted(registry), name_of(place)


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [p for p in pages if p.relative_to(ROOT / "docs").as_posix() not in menu] == []


def test_every_page_says_first_whom_it_serves():
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            text = page.read_text(encoding="utf-8")
            first = next(part for part in text.split("\n\n") if not part.startswith(("#", "<!--")))
            assert first.startswith("For "), f"{name_of(page)}: {first[:60]}"


def test_every_reference_names_something_that_there_is():
    pattern = re.compile(r"^::: ([\w.]+)\.(\w+)$", re.M)
    names = [one for page in PAGES for one in pattern.findall(page.read_text(encoding="utf-8"))]
    assert len(names) > 30
    for place, name in names:
        there = hasattr(importlib.import_module(place), name)
        assert there or importlib.util.find_spec(f"{place}.{name}"), f"{place}.{name}"


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (make docs)"
)
def test_the_site_is_built_and_loads_nothing(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"],
        cwd=ROOT, check=True, env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    # A page from disk cannot fetch the index, so the plug-in writes it as a script.
    assert (tmp_path / "site" / "search" / "search_index.js").exists()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'(?:src|rel="stylesheet" href)="https?:', text), page
