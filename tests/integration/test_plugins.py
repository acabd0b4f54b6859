from __future__ import annotations

import re
import sys

import pytest
import torch

from adversary.attacks import ATTACKS, ING
from adversary.common.plugins import PluginError
from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder
from fl_sim.cli import listing
from fl_sim.cli.app import main
from fl_sim.data import DATASETS, load
from fl_sim.defences import DEFENCES
from fl_sim.defences.gaussian_noise import GaussianNoise
from fl_sim.engines.in_process import run_in_process


def test_defences_and_attacks_say_what_they_need():
    class Plain(GaussianNoise):
        pass

    class Named(ING):
        pass

    with pytest.raises(PluginError, match="Plain is no dataclass"):
        DEFENCES["plain"] = Plain
    with pytest.raises(PluginError, match=r"Named.name is 'ing'; must be 'named'"):
        ATTACKS["named"] = Named
    assert not {"plain", "named"} & {*DEFENCES, *ATTACKS}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package of one module, with these entry points."""

    def install(module: str, entry_points: str) -> None:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "my_package.py").write_text(module)
        about = tmp_path / "my_package-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(entry_points)
        _look_again()

    yield install
    sys.modules.pop("my_package", None)
    monkeypatch.undo()
    _look_again()


def _look_again() -> None:
    for registry in (ATTACKS, DEFENCES, DATASETS):
        vars(registry).pop("_found", None)


def test_the_page_s_own_defence_and_attack(installed, root, quick):
    page = (root / "docs" / "howto" / "package.md").read_text(encoding="utf-8")
    module, points = re.findall(r"```(?:python|toml)\n(.*?)```", page, re.S)
    group = re.sub(r'\[project.entry-points."(.*)"\]', r"[\1]", points)
    installed(module, group.replace('"', ""))
    settings = quick(
        rounds=1, clients=2, local__batch_size=1, defence__name="rounded",
        defence__options="decimals=3", adversary__attack="mean-image,dlg",
        adversary__options="dlg.iterations=2",
    )  # fmt: skip
    folder = RunFolder.open(run_in_process(settings).parent)
    leakage = folder.leakage()
    assert set(leakage["attack"]) == {"mean-image", "dlg"}
    assert set(leakage["status"]) == {"ok"}
    # The mean public X-ray is what RDLV counts from.
    assert leakage.loc[leakage["attack"] == "mean-image", "rdlv"].abs().max() < 1e-6
    assert folder.info()["defence"]["decimals"] == 3


WIRE = """
from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord

from fl_sim.defences import Defence
from strategies.grids.base import GridWrapper


def cast(content, dtype, expected):
    arrays = content.array_records["arrays"].to_torch_state_dict()
    assert {v.dtype for v in arrays.values() if v.is_floating_point()} == {expected}
    content.array_records["arrays"] = ArrayRecord(
        {k: v.to(dtype) if v.is_floating_point() else v for k, v in arrays.items()}
    )


def narrow(message, context, call_next):
    reply = call_next(message, context)
    cast(reply.content, torch.float16, torch.float32)
    return reply


class Widened(GridWrapper):
    def send_and_receive(self, messages, *, timeout=None):
        for reply in super().send_and_receive(messages, timeout=timeout):
            if "arrays" in reply.content:
                cast(reply.content, torch.float32, torch.float16)
            yield reply


@dataclass(frozen=True, kw_only=True)
class HalfWire(Defence):
    protects = "Nothing: it saves half of the bytes."

    def grid(self, grid):
        return Widened(grid)

    def client_mod(self):
        return narrow
"""


def test_a_defence_from_outside_changes_both_ends_of_the_transport(installed, quick):
    installed(WIRE, "[fl_sim.defences]\nhalf-wire = my_package:HalfWire\n")
    settings = quick(
        rounds=1, clients=2, local__batch_size=1, defence__name="half-wire", adversary__record=True
    )
    folder = RunFolder.open(run_in_process(settings).parent)
    assert folder.info()["threat"]["view"] == "client"
    seen = [Observation.load(update) for update in folder.recorded_updates()]
    assert len(seen) == 2
    for one in seen:
        moved = {n: v for n, v in one.returned.items() if not torch.equal(v, one.sent[n])}
        assert moved
        for value in moved.values():  # 11 bits travelled, and 24 were at both ends
            assert value.dtype == torch.float32 or not value.is_floating_point()
            assert torch.equal(value, value.half().to(value.dtype))


def test_the_how_to_s_trusted_aggregator_shows_the_mean_alone(root, quick):
    page = (root / "docs/howto/defence.md").read_text(encoding="utf-8")
    program = re.findall(r"```python\n(.*?)```", page.split("changes the transport")[-1], re.S)[0]
    exec(compile(program, "defence.md", "exec"), {"__name__": "page"})
    folders = {}
    try:
        for name in ("none", "trusted-aggregator"):
            settings = quick(
                rounds=1, clients=3, local__batch_size=1, adversary__record=True,
                defence__name=name, out=f"{quick().out}-{name}",
            )  # fmt: skip
            folders[name] = RunFolder.open(run_in_process(settings).parent)
    finally:
        del DEFENCES["trusted-aggregator"]
    plain, hidden = folders.values()
    assert hidden.info()["threat"]["view"] == "aggregate"
    assert set(hidden.leakage()["client"]) == {"aggregate"}
    each = [Observation.load(update) for update in plain.recorded_updates()]
    (update,) = hidden.recorded_updates()
    mean = Observation.load(update)
    assert (mean.view, mean.num_examples) == ("aggregate", sum(one.num_examples for one in each))
    assert dict(mean.members) == {one.client: one.num_examples for one in each}
    for name, value in mean.returned.items():
        expected = sum(one.num_examples * one.returned[name].double() for one in each)
        torch.testing.assert_close(value.double(), expected / mean.num_examples)


def test_the_how_to_s_own_data_set(installed, root):
    section = (root / "docs/howto/data.md").read_text(encoding="utf-8")
    section = section.split("## A data set of your own by name")[1]
    module, points = re.findall(r"```(?:python|toml) title=.*?\n(.*?)```", section, re.S)[:2]
    group = re.sub(r'\[project.entry-points."(.*)"\]', r"[\1]", points)
    installed(module, group.replace('"', ""))
    assert "noise" in DATASETS
    splits = load("noise", image_size=8)
    assert sum(map(len, vars(splits).values())) == 40
    assert len({*splits.private.patients, *splits.public.patients, *splits.test.patients}) == 20
    with pytest.raises(ValueError, match=r"data\.path = 'x': the data set 'noise' reads no file"):
        load("noise", path="x")


def test_a_broken_data_set_is_a_line(installed):
    installed("maker = 3", "[fl_sim.data]\nbad = my_package:maker\ngone = my_package:gone\n")
    for name, message in [
        ("bad", "bad of package my-package: 3 must be callable"),
        ("gone", "gone of package my-package cannot be loaded: AttributeError"),
    ]:
        with pytest.raises(PluginError, match=f"fl_sim.data: {message}"):
            load(name)
    with pytest.raises(PluginError, match="embedded is built in"):
        DATASETS["embedded"] = lambda request: None


def test_a_broken_package_is_a_line_where_it_is_listed_or_chosen(
    installed, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("COLUMNS", "200")
    installed("raise RuntimeError('half installed')", "[fl_sim.defences]\nbad = my_package:Bad\n")
    assert "bad" in listing.DEFENCES
    assert main(["list", "defences"]) == 0
    listed = capsys.readouterr().out
    assert "gaussian-noise" in listed
    assert "bad of package my-package cannot be loaded: RuntimeError: half installed" in listed
    command = ["run", "--engine", "local", "--out", str(tmp_path / "run"), "--set"]
    assert main([*command, "defence.name=bad"]) == 2
    assert capsys.readouterr().err == (
        "fl-sim: error: fl_sim.defences: bad of package my-package cannot be loaded: "
        "RuntimeError: half installed\n"
    )
    assert main([*command, "defence.name=bat"]) == 2
    assert "one of none, gaussian-noise" in capsys.readouterr().err
