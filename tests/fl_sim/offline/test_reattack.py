from __future__ import annotations

import io
import shutil
from pathlib import Path

import pandas as pd
import pytest

from adversary.storage.run_folder import RunFolder, RunFolderError
from fl_sim.engines.in_process import run_in_process
from fl_sim.offline.reattack import ReattackError, reattack
from fl_sim.settings.rules import SettingsError

KEY = ["round", "client", "attack", "image"]


@pytest.fixture(scope="module")
def original():
    """A run with recorded updates, once there is one."""
    return {}


@pytest.fixture
def recorded(quick, tmp_path, tmp_path_factory, original):
    """A copy of a run with recorded updates."""
    if not original:
        settings = quick(
            adversary__record=True, out=str(tmp_path_factory.mktemp("recorded") / "run")
        )
        run_in_process(settings)
        original["path"] = settings.out
    return RunFolder.open(shutil.copytree(original["path"], tmp_path / "run"))


def table(folder):
    return folder.leakage().drop(columns="seconds").sort_values(KEY).to_csv(index=False)


def without_lpips(text):
    return pd.read_csv(io.StringIO(text)).drop(columns="lpips").to_csv(index=False)


def test_the_same_attack_gives_what_the_live_run_gave(recorded, capsys):
    live = table(recorded)
    capsys.readouterr()
    assert reattack(recorded.path) == recorded.path / "report.html"
    assert table(recorded) == live
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 6
    assert told[0].startswith("fl-sim: attack 1/6 · round 1 · client-00 · dlg · ")
    assert " dB · " in told[0]
    assert told[0].endswith(" left")
    assert told[-1].endswith(" dB")


def test_several_processes_give_what_one_gives(recorded, capsys):
    live = table(recorded)
    capsys.readouterr()
    reattack(recorded.path, jobs=2)
    # The processes know LPIPS, which this one does without.
    assert without_lpips(table(recorded)) == without_lpips(live)
    told = [line.split(" · ")[0] for line in capsys.readouterr().out.splitlines()]
    assert told == [f"fl-sim: attack {number}/6" for number in range(1, 7)]


def test_another_attack_adds_rows(recorded):
    live = table(recorded)
    options = {"adversary.attack": "ing", "adversary.options": "ing.iterations=2"}
    reattack(recorded.path, options)
    leakage = recorded.leakage()
    assert set(leakage["attack"]) == {"dlg", "ing"}
    only = leakage[leakage["attack"] == "dlg"].drop(columns="seconds")
    assert only.sort_values(KEY).to_csv(index=False) == live


def test_results_are_replaced(recorded):
    before = recorded.leakage()
    reattack(recorded.path, {"adversary.options": "dlg.iterations=4"})
    after = recorded.leakage()
    assert len(after) == len(before)
    assert not set(after["evaluations"]) & set(before["evaluations"])


def test_a_failure_gives_way_to_a_result(recorded):
    good = table(recorded)
    reattack(recorded.path, {"adversary.start": "mean", "adversary.evaluations": 1})
    recorded.forget(1, "client-00", "dlg")
    recorded.add_failure(1, "client-00", "dlg", "out of memory")
    reattack(recorded.path)
    assert table(recorded) == good
    assert recorded.info()["failures"] == []


def test_an_oracle_that_is_granted_later_is_told(recorded):
    reattack(recorded.path, {"adversary.labels-known": True})
    assert recorded.info()["oracles"] == ["labels known"]


def test_only_the_adversary_and_the_device_can_change(recorded):
    with pytest.raises(SettingsError) as error:
        reattack(recorded.path, {"local.lr": 1.0, "seed": 3, "device": "cpu"})
    assert str(error.value).splitlines() == [
        "local.lr: the run fixed it; only adversary.* and device can change",
        "seed: the run fixed it; only adversary.* and device can change",
    ]


def test_what_an_attack_on_recorded_updates_does_not_read_is_refused(recorded):
    with pytest.raises(SettingsError) as error:
        reattack(recorded.path, {"adversary.workers": 2, "adversary.start-image": "x.png"})
    assert str(error.value).splitlines() == [
        "adversary.workers: fl-sim attack does not read it",
        "adversary.start-image = 'x.png': nothing reads it without adversary.start = 'image'",
    ]


def test_a_run_that_recorded_nothing(quick):
    settings = quick(rounds=1)
    run_in_process(settings)
    with pytest.raises(ReattackError, match=r"holds no recorded updates: .*adversary.record"):
        reattack(Path(settings.out))


def test_no_run_at_all(tmp_path):
    with pytest.raises(RunFolderError, match="is not the folder of a run"):
        reattack(tmp_path)


def test_a_damaged_update_is_named_and_the_others_are_attacked(recorded):
    before = recorded.leakage().set_index(KEY)["psnr"]
    update = recorded.recorded_updates()[0]
    update.write_bytes(update.read_bytes()[:100])
    with pytest.raises(ValueError, match="client-00.safetensors: not a recorded update"):
        reattack(recorded.path, {"adversary.options": "dlg.iterations=1"})
    after = recorded.leakage().set_index(KEY)["psnr"]
    same = after == before.reindex(after.index)  # what was found of the damaged one stays
    assert set(same[same].index.droplevel("image")) == {(1, "client-00", "dlg")}
