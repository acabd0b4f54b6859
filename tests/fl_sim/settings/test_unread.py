"""Settings that nothing reads are refused, not passed over."""

from __future__ import annotations

import pytest

from fl_sim.cli.app import main
from fl_sim.data import DATASETS, DataError, load
from fl_sim.data.sources.base import UNREAD
from fl_sim.settings.declared import declared_settings
from fl_sim.settings.parse import parse
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.unread import (
    AUDIT_PASSES_OVER,
    READERS,
    REATTACK_PASSES_OVER,
    refuse_unread,
    refuse_unread_changes,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.alpha": 2.0}, r"data\.alpha = 2\.0: nothing reads it without data\.partition = 'd"),
        ({"model.name": "lenet", "model.activation": "relu"}, r"without model\.name = 'convnet'"),
        ({"local.decay": 0.5}, r"local\.decay = 0\.5: nothing reads it without local\.schedule"),
        ({"strategy.proximal-mu": 1.0}, r"without strategy\.name = 'fedprox'"),
        ({"strategy.min-delta": 1.0}, r"without strategy\.stop-patience or strategy\.plateau-pat"),
        ({"adversary.start-image": "x.png"}, r"without adversary\.start = 'image'"),
        ({"adversary.choice": "smallest"}, r"without adversary\.clients > 0"),
    ],
)
def test_what_nothing_reads_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        refuse_unread(parse(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.partition": "dirichlet", "data.alpha": 2.0},
        {"model.activation": "relu"},
        {"local.schedule": "step", "local.decay": 0.5, "local.decay-every": 2},
        {"strategy.name": "fedprox", "strategy.proximal-mu": 1.0},
        {"strategy.stop-patience": 2, "strategy.monitor": "loss", "strategy.min-delta": 0.1},
        {"strategy.plateau-patience": 2, "strategy.plateau-factor": 0.2},
        {"adversary.start": "image", "adversary.start-image": "x.png"},
        {"adversary.start": "mean, image", "adversary.start-image": "x.png"},
        {"adversary.clients": 2, "adversary.choice": "smallest"},
    ],
)
def test_what_is_read_passes(changes):
    refuse_unread(parse(changes))


def test_readers_name_settings_that_there_are():
    known = {one.key for one in declared_settings()}
    assert {key for reader in READERS for key in reader.keys} <= known
    assert {*AUDIT_PASSES_OVER, *REATTACK_PASSES_OVER} <= known
    assert {f"data.{field.replace('_', '-')}" for field in UNREAD} <= known


@pytest.mark.parametrize("name", ["embedded", "phantom", "nih", "pneumoniamnist", "kermany"])
@pytest.mark.parametrize(
    "setting", [{"path": "x"}, {"columns": "path=x"}, {"patients": "image"}, {"uncertain": "ones"},
                {"max_value": 9.0}, {"on_error": "skip"}],
)  # fmt: skip
def test_a_data_set_refuses_what_it_does_not_read(name, setting):
    read = DATASETS[name].reads
    (field,) = setting
    if field in read:
        return
    shown = field.replace("_", "-")
    with pytest.raises(DataError, match=rf"data\.{shown} = .*: the data set '{name}' ") as caught:
        load(name, **setting)
    assert "\n" not in str(caught.value)


def test_a_path_that_nothing_reads_ends_the_run_before_it_starts(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["run", "--engine", "local", "--out", str(out), "--set", f"data.path={tmp_path}"]
    assert main(command) == 2
    assert "nothing reads it without data.name = 'folder'" in capsys.readouterr().err
    assert not out.exists()


def test_a_command_refuses_what_it_was_told_and_leaves_what_its_run_was_told():
    settings = parse({"data.alpha": 2.0, "local.decay": 0.5, "rounds": 9})
    with pytest.raises(SettingsError) as error:
        refuse_unread_changes(settings, {"local.decay": 0.5, "rounds": 9}, "fl-sim x", ["rounds"])
    assert str(error.value).splitlines() == [
        "local.decay = 0.5: nothing reads it without local.schedule = 'step'",
        "rounds: fl-sim x does not read it",
    ]
    refuse_unread_changes(settings, {}, "fl-sim x", ["rounds"])
