from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pandas as pd
import pytest

from adversary.storage.run_folder import RunFolder
from fl_sim.cli.app import main
from fl_sim.engines.in_process import run_in_process
from fl_sim.offline import comparison
from fl_sim.offline.comparison import check, plan, run
from fl_sim.settings.parse import flatten, flatten_toml, parse
from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings

COMMON = """
rounds = 1
clients = 2
device = "cpu"
[data]
name = "phantom"
num-images = 24
image-size = 16
[local]
lr = 0.05
[model]
activation = "tanh"
[adversary]
attack = "ing"
options = "ing.iterations=50"
bounds = "off"
"""
TWO = """
[compare]
seeds = [1, 2]
[[compare.defence]]
name = "none"
[[compare.defence]]
name = "gaussian-noise"
options = "scale=1"
label = "much noise"
local.batch-size = 2
"""


def read(text: str) -> dict:
    return dict(flatten_toml(tomllib.loads(text)))


class Engine:
    """Stands in for a federation: writes a completed run, or does as it is told for a folder."""

    def __init__(self, **act: BaseException) -> None:
        self.act = act
        self.done: list[str] = []

    def __call__(self, settings: Settings) -> None:
        out = Path(settings.out)
        where = f"{out.parent.name}/{out.name}"
        self.done.append(where)
        folder = RunFolder.create(out, settings=flatten(settings))
        folder.add_round(round=1, auc=0.5)
        if error := self.act.get(out.parent.name):
            folder.finish("failed", str(error))
            raise error
        folder.finish("completed")


def names(engine: Engine) -> list[str]:
    return [place.split("-")[0].split("/")[0] + place[-7:] for place in engine.done]


def test_every_case_runs_with_every_seed(tmp_path):
    wanted = plan(read(COMMON + TWO))
    assert wanted.seeds == (1, 2)
    first, second = wanted.cases
    assert (first.label, first.parameters) == ("none", "")
    assert (second.label, second.parameters) == ("much noise", "scale=1, local.batch-size=2")
    assert second.settings.local.batch_size == 2
    made = wanted.settings(second, 2, tmp_path)
    assert (made.seed, made.defence.name) == (2, "gaussian-noise")
    assert Path(made.out).parent.parent == tmp_path / "runs"
    assert first.settings == parse(read(COMMON))


def test_changes_win_over_the_common_settings_and_a_defence_s_own_over_both():
    wanted = plan(read(COMMON + TWO), {"local.batch-size": 3, "rounds": 5})
    assert [case.settings.local.batch_size for case in wanted.cases] == [3, 2]
    assert all(case.settings.rounds == 5 for case in wanted.cases)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["compare.defence: must be one or more tables [[compare.defence]]"]),
        ("seed = 3\n" + TWO, ["seed: a comparison sets it for each run; take compare.seeds"]),
        (COMMON + '[defence]\nname = "none"\n' + TWO, ["defence.name: a comparison sets it"]),
        ("rounds = 0\nclints = 3\n" + TWO, ["rounds = 0", "clints: unknown setting"]),
        (TWO.replace("[1, 2]", "[1, 1]"), ["compare.seeds = [1, 1]: must be a list of different"]),
        (TWO.replace("[1, 2]", "[]"), ["compare.seeds = []"]),
        (TWO.replace("[1, 2]", "[true]"), ["compare.seeds = [True]"]),
        (TWO.replace("[1, 2]", "1"), ["compare.seeds = 1"]),
        (TWO.replace("seeds", "sedes"), ["compare.sedes: unknown setting; compare has seeds"]),
        (TWO.replace('name = "none"', 'label = "x"'), ["compare.defence 1: name is missing"]),
        (TWO.replace("much noise", "none"), ["compare.defence 2: label = 'none': is taken"]),
        (TWO.replace("much noise", ""), ["compare.defence 2: label = '': must be text of 1 to 60"]),
        (TWO.replace("none", "non"), ["compare.defence 1: defence.name = 'non': must be one of"]),
        (TWO.replace("local.batch", "local.bach"), ["compare.defence 2: local.bach-size: unknown"]),
        (TWO + "seed = 4\n", ["compare.defence 2: seed: a comparison sets it"]),
        (TWO.replace("size = 2", "size = 0").replace('"none"', '"nix"'),
         ["compare.defence 1: defence.name = 'nix'", "compare.defence 2: local.batch-size = 0"]),
        ("[compare]\ndefence = [1]\n", ["compare.defence 1 = 1: must be a table"]),
    ],
)  # fmt: skip
def test_every_mistake_is_a_line(text, said):
    with pytest.raises(SettingsError) as error:
        plan(read(text))
    lines = str(error.value).splitlines()
    assert len(lines) == len(said)
    for line, start in zip(lines, said, strict=True):
        assert line.startswith(start)


def test_what_no_case_reads_is_refused_and_what_one_reads_is_not():
    skewed = TWO + 'data.partition = "dirichlet"\n'
    assert plan(read(COMMON + skewed), {"data.alpha": 2.0}).cases[1].settings.data.alpha == 2.0
    with pytest.raises(SettingsError) as error:
        plan(read(COMMON + TWO + "local.decay = 0.5\n"), {"data.alpha": 2.0})
    assert str(error.value).splitlines() == [
        "data.alpha = 2.0: nothing reads it without data.partition = 'dirichlet' or 'quantity'",
        "much noise: local.decay = 0.5: nothing reads it without local.schedule = 'step'",
    ]
    with pytest.raises(SettingsError, match="much noise: local.decay"):
        plan(read(COMMON + TWO.replace("[1, 2]", "[1]") + "local.decay = 0.5\n"))


def test_what_does_not_fit_together_is_told_before_any_run():
    wanted = plan(
        read(COMMON + TWO.replace("scale=1", "scale=-1").replace("size = 2", "size = 99"))
    )
    with pytest.raises(SettingsError) as error:
        check(wanted)
    [line] = str(error.value).splitlines()
    assert line.startswith("much noise: defence.scale = -1.0: must be a number >= 0")
    with pytest.raises(SettingsError) as error:
        plan(read(COMMON + TWO), {"adversary.options": "dlg.iterations=1"})
    [line] = str(error.value).splitlines()
    assert line.startswith("adversary.dlg.iterations: must be adversary.ATTACK.OPTION")


@pytest.mark.parametrize(
    "entry",
    [
        'name = "gaussian-noise"\nscale = 1',
        'name = "gaussian-noise"\noptions = "scale=1"',
        'name = "gaussian-noise"\n"defence.scale" = 1.0',
    ],
)
def test_parameters_of_a_defence_stand_beside_its_name(entry):
    [case] = plan(read(f"{COMMON}[[compare.defence]]\n{entry}\n")).cases
    assert case.label == "gaussian-noise scale=1"
    assert case.settings.defence.options == {"scale": 1.0}
    assert (case.parameters, case.changes) == ("scale=1", {})


def test_a_name_of_a_setting_and_of_a_parameter_is_the_setting():
    entry = 'name = "dp-sgd"\nrounds = 5\n"defence.rounds" = 7\nnoise-multiplier = 1'
    [case] = plan(read(f"{COMMON}[[compare.defence]]\n{entry}\n")).cases
    assert case.settings.rounds == 5
    assert case.settings.defence.options == {"rounds": 7, "noise_multiplier": 1.0}
    assert case.changes == {"rounds": 5}


def test_a_comparison_chooses_the_defences_itself():
    with pytest.raises(SettingsError) as error:
        plan(read(COMMON + TWO), {"defence.scale": 1})
    assert str(error.value) == (
        "defence.scale: a comparison sets it for each run; take [[compare.defence]]"
    )


def test_completed_runs_are_kept_and_others_done_again(tmp_path):
    wanted = plan(read(COMMON + TWO))
    first = Engine()
    assert run(wanted, tmp_path, first) == []
    assert names(first) == ["none/seed-1", "none/seed-2", "much_noise/seed-1", "much_noise/seed-2"]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/run.json")}
    told: list[str] = []
    again = Engine()
    assert run(wanted, tmp_path, again, told.append) == []
    assert again.done == []
    assert told == ["4 of 4 runs are there already and are kept"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/*/run.json")} == before
    RunFolder.open(tmp_path / "runs/none/seed-2").update(status="stopped")
    assert run(wanted, tmp_path, again, told.append) == []
    assert again.done == ["none/seed-2"]
    changed = plan(read(COMMON + TWO.replace("size = 2", "size = 3")))
    other = Engine()
    run(changed, tmp_path, other)
    assert names(other) == ["much_noise/seed-1", "much_noise/seed-2"]


def test_settings_that_all_cases_share_are_told_once(tmp_path):
    run(plan(read(COMMON + TWO)), tmp_path, Engine())
    found = json.loads((tmp_path / "comparison.json").read_text())
    assert found["common"]["local.lr"] == 0.05
    none, noise = found["settings"]
    assert none["changes"] == {
        "defence.name": "none", "defence.options": "", "local.batch-size": 1
    }  # fmt: skip
    assert noise["changes"]["local.batch-size"] == 2
    assert [one["status"] for one in noise["runs"]] == ["completed", "completed"]


def test_a_comparison_can_be_moved(tmp_path):
    wanted = plan(read(COMMON + TWO))
    run(wanted, tmp_path / "a", Engine())
    (tmp_path / "a").rename(tmp_path / "b")
    later = Engine()
    run(wanted, tmp_path / "b", later)
    assert later.done == []


def test_a_failed_run_is_a_row_with_a_note_and_the_others_go_on(tmp_path, capsys):
    wanted = plan(read(COMMON + TWO))
    told: list[str] = []
    failures = run(wanted, tmp_path, Engine(none=RuntimeError("it rained")), told.append)
    assert failures == [f"none, seed {seed}: RuntimeError: it rained" for seed in (1, 2)]
    assert "run 1/4 · none · seed 1 · failed: RuntimeError: it rained" in told
    assert "Traceback" in capsys.readouterr().err  # no error of ours: where it came from matters
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert list(table["status"]) == ["failed", "completed"]
    assert list(table["runs"]) == [0, 2]
    assert "seed 2: RuntimeError: it rained" in table["note"][0]


def test_ctrl_c_leaves_what_is_done_and_the_rest_for_later(tmp_path):
    wanted = plan(read(COMMON + TWO))
    second = Path(wanted.settings(wanted.cases[1], 1, tmp_path).out).parent.name
    stopped = Engine(**{second: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path, stopped)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert list(table["status"]) == ["completed", "missing"]
    later = Engine()
    assert run(wanted, tmp_path, later) == []
    assert names(later) == ["much_noise/seed-1", "much_noise/seed-2"]


def test_progress_tells_the_runs_left(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(comparison.time, "monotonic", lambda: now[0])

    def engine(settings):
        now[0] += 40
        Engine()(settings)

    told: list[str] = []
    run(plan(read(COMMON + TWO)), tmp_path, engine, told.append)
    assert told[:2] == [
        "run 1/4 · none · seed 1",
        "run 1/4 · none · seed 1 · done, about 2m00s left",
    ]
    assert told[-1] == "run 4/4 · much noise · seed 2"


COMPARED = {
    "none": ("none", ""),
    "noise 0": ("gaussian-noise", "scale=0"),
    "noise 0.5": ("gaussian-noise", "scale=0.5"),
    "noise 2": ("gaussian-noise", "scale=2"),
    "top 100 %": ("top-k", "share=1"),
    "central DP": ("central-dp", "clip=0.1, noise_multiplier=0.1"),
    "secure aggregation": ("secure-aggregation", ""),
}
# The first of each pair leaks more than the second, on average.
ORDER = [
    ("noise 0", "noise 0.5"),
    ("noise 0.5", "noise 2"),
    ("none", "secure aggregation"),
]
# Both show the server the same updates.
SAME = [("none", "noise 0"), ("none", "top 100 %"), ("none", "central DP")]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A real comparison, two seeds each: two runs at once, the others in this process."""
    folder = tmp_path_factory.mktemp("compared")
    config = folder / "compare.toml"
    entries = [
        f'[[compare.defence]]\nname = "{name}"\noptions = "{options}"\nlabel = "{label}"\n'
        for label, (name, options) in COMPARED.items()
    ]
    common = COMMON.replace("clients = 2", "clients = 3")
    config.write_text(common + "[compare]\nseeds = [1, 2]\n" + "".join(entries))
    command = ["compare", "--config", str(config), "--engine", "local", "--out", str(folder / "c")]
    assert main([*command, "--jobs", "1"]) == 0
    shutil.rmtree(folder / "c" / "runs" / "none")  # these are run anew, at once
    command += ["--jobs", "2"]
    assert main(command) == 0
    return folder / "c", command


@pytest.mark.parametrize(("more", "less"), ORDER)
def test_a_stronger_defence_leaks_less_on_average(more, less, compared):
    psnr = pd.read_csv(compared[0] / "comparison.csv").set_index("label")
    assert psnr.loc[more, "psnr"] > psnr.loc[less, "psnr"]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_does_not_change_the_updates_leaks_as_much(one, other, compared):
    table = pd.read_csv(compared[0] / "comparison.csv").set_index("label")
    assert table.loc[one, "psnr"] == pytest.approx(table.loc[other, "psnr"], rel=1e-3)


def test_a_run_of_a_comparison_is_the_run_by_itself(compared, quick, tmp_path):
    inside = RunFolder.open(compared[0] / "runs" / "none" / "seed-2")
    settings = parse({**inside.info()["settings"], "out": str(tmp_path / "alone")})
    alone = RunFolder.open(run_in_process(settings).parent)
    assert list(alone.rounds()["loss"]) == list(inside.rounds()["loss"])
    assert list(alone.leakage()["psnr"]) == list(inside.leakage()["psnr"])


def test_the_command_keeps_what_is_done_and_prints_the_page_last(compared, capsys):
    folder, command = compared
    assert main(command) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "14 of 14 runs are there already and are kept"
    assert out[1].split() == ["setting", "verdict", "worst", "PSNR", "to", "bound"]
    assert [line.split("  ")[0] for line in out[2:-1]] == list(COMPARED)
    assert all(" dB, bound not known" in line for line in out[2:-1])
    assert out[-1] == str(folder / "comparison.html")


def test_a_comparison_that_can_be_cited_is_written_beside_the_tables(compared):
    found = json.loads((compared[0] / "comparison.json").read_text())
    assert found["seeds"] == [1, 2]
    assert found["versions"].keys() >= {"torch", "flwr"}
    assert (found["common"]["adversary.attack"], found["common"]["clients"]) == ("ing", 3)
    assert not {"seed", "out", "defence.name"} & found["common"].keys()
    assert [one["label"] for one in found["settings"]] == list(COMPARED)
    noise = found["settings"][2]
    assert noise["changes"] == {"defence.name": "gaussian-noise", "defence.options": "scale=0.5"}
    assert noise["examined"] == {
        "clients": 3, "hospitals": 3, "rounds": 1, "rounds_run": 1, "images": 6,
        "images_held": noise["examined"]["images_held"], "runs": 2, "aggregate": False,
    }  # fmt: skip
    table = pd.read_csv(compared[0] / "comparison.csv").set_index("label")
    for one in found["settings"]:
        assert one["figures"]["psnr"]["worst"] == table.loc[one["label"], "psnr_worst"]
        assert one["verdict"] == table.loc[one["label"], "verdict"]
    whole = found["settings"][-1]
    assert whole["examined"]["aggregate"]
    clients = {image["client"] for run in whole["runs"] for image in run["images"]}
    assert clients == {"aggregate"}  # none of the masked updates


def test_nothing_of_a_comparison_that_has_no_bound_is_called_protected(compared):
    table = pd.read_csv(compared[0] / "comparison.csv")
    assert "protected" not in set(table["verdict"])


def test_the_command_tells_mistakes_in_lines(tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text(COMMON + TWO)
    command = ["compare", "--config", str(config), "--out", str(tmp_path / "out")]
    assert main([*command, "--set", "defence.name=none"]) == 2
    assert capsys.readouterr().err.startswith("fl-sim: error: defence.name: a comparison sets it")
    assert main([*command, "--jobs", "2"]) == 2
    assert "--jobs 2: must be 1 with Flower" in capsys.readouterr().err
    RunFolder.create(tmp_path / "out")
    assert main(command) == 2
    assert "holds a single run" in capsys.readouterr().err
