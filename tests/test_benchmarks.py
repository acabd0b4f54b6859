"""``make bench`` calls every script with options that it has, and one command calls all."""

from __future__ import annotations

import dataclasses
import importlib
import json
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as entry
from benchmarks import (
    attack_meets_bound,
    certificates,
    common,
    exact_recovery,
    realistic,
    updates,
)
from benchmarks.suite import CLAIMS
from benchmarks.tables import attack_meets_bound as beside_bound

UNKNOWN = "--no-such-option"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_the_options_of_every_claim_are_understood(claim, monkeypatch, capsys):
    script = importlib.import_module(f"benchmarks.{claim.module}")
    monkeypatch.setattr(sys, "argv", [claim.module, *claim.arguments, UNKNOWN])
    with pytest.raises(SystemExit):
        script.main()
    assert capsys.readouterr().err.strip().endswith(f"unrecognized arguments: {UNKNOWN}")


def test_every_script_with_a_main_is_listed_with_what_it_does(capsys):
    known = entry.benchmarks()
    assert {claim.module for claim in CLAIMS} | {"pages", "paper"} <= set(known)
    assert not {"common", "updates", "__main__"} & set(known)  # these are imported, not run
    for name, one in known.items():
        assert importlib.import_module(one.module).__doc__.startswith(one.title), name
        assert len(one.title) > 20
    with pytest.raises(SystemExit) as end:
        entry.main(["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and one.title in told for name, one in known.items())


def test_a_script_gets_its_own_arguments_and_help(capsys):
    before = list(sys.argv)
    with pytest.raises(SystemExit):
        entry.main(["certificates", "--case", "none", UNKNOWN])
    said = capsys.readouterr().err
    assert said.strip().endswith(f"unrecognized arguments: {UNKNOWN}")
    assert said.startswith("usage: python -m benchmarks certificates ")
    with pytest.raises(SystemExit):
        entry.main(["certificates", "--help"])
    assert "--impostors" in capsys.readouterr().out
    assert sys.argv == before


def test_a_script_that_there_is_not_is_a_line_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        entry.main(["no-such-script"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "invalid choice: 'no-such-script'" in said
    assert "paper" in said


def test_the_list_waits_for_no_torch():
    code = "import sys; from benchmarks.__main__ import benchmarks; benchmarks(); " \
        "print('torch' in sys.modules)"  # fmt: skip
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_every_row_of_the_realistic_benchmark_is_told_from_the_others():
    rows = common.read_rows(realistic.ROWS)
    assert len({realistic.key(row) for row in rows}) == len(rows)


def test_a_row_that_a_time_limit_ended_takes_no_place_of_a_whole_one(tmp_path):
    file = tmp_path / "rows.json"
    row = dict.fromkeys(exact_recovery.SETTINGS, 1)
    ended = ["seconds", "converged", "seconds", "evaluations"]
    for psnr, (stopped, expected) in enumerate(zip(ended, [0, 1, 1, 3], strict=True)):
        exact_recovery.keep([row | {"stopped": stopped, "psnr": psnr}], file)
        assert [one["psnr"] for one in json.loads(file.read_text())["rows"]] == [expected]


def line(case, certificate, expected, actual, impostor="", **place):
    """Return a line of the file of certificates."""
    place = {"network": "tanh", "size": 16, "seed": 1, "round": 1, "client": 0, **place}
    told = {"expected": expected, "actual": actual, "mean": [18.0] * len(actual), "member": "ing"}
    about = {"data": "embedded", "effort": "quick", "impostor": impostor}
    return {"case": case, **place, **about, "certificate": certificate, **told}


LINES = [
    line("none", "proved", [50.0], [51.0]),
    line("none", "proved", [50.0], [46.0], seed=2),
    line("none", "proved", [50.0, 50.0], [50.0, None], seed=3),
    line("none", "open", [30.0], [20.0], seed=4, network="ReLU"),
    line("noise 3", "nothing", [18.5], [18.0]),
    line("none", "open", [18.5], [9.0], impostor="weights"),
    line("none", "proved", [30.0], [9.0], impostor="run"),
    {**line("none", "", [], [], seed=5), "failure": "nothing to attack"},
]
del LINES[-1]["certificate"]


def test_false_proofs_are_off_by_more_than_three_decibels_or_of_no_image():
    found = certificates.summary(LINES)
    none, noise = found["rows"]
    assert [none[n] for n in ("updates", "proved", "open", "nothing")] == [4, 3, 1, 0]
    assert none["false_proofs"] == 2
    assert none["expected_minus_actual_db"]["mean"] == pytest.approx((-1 + 4 + 0) / 3)
    assert none["open_expected_minus_actual_db"]["q99"] == 10.0
    assert noise["nothing"] == 1
    assert noise["expected_minus_actual_db"] is None
    assert [row["updates"] for row in found["networks"]] == [4, 1]
    assert found["total"]["updates"] == 5
    proved = {one["kind"]: (one["updates"], one["proved"]) for one in found["impostors"]}
    assert proved == {"weights": (1, 0), "client": (0, 0), "run": (1, 1)}
    assert len(found["false"]) == 3
    assert len(found["points"]) == 5


def test_tasks_are_enough_and_apart_and_no_impostor_is_of_a_dear_channel():
    given = certificates.parser().parse_args([])
    source = updates.Source()
    todo = certificates.tasks(
        given.case, given.network, given.most, given.impostors, source, given.effort
    )
    own = [task for task in todo if not task.impostor]
    assert len(own) >= 300
    assert len(todo) - len(own) == 200
    assert len({certificates.key_of(task.key) for task in todo}) == len(todo)
    assert {task.place.case for task in own} == set(updates.CASES)
    for task in own:
        assert not {task.place.round} - set(certificates.ROUNDS)
    assert not {t.place.case for t in todo if t.impostor} & set(certificates.DEAR)


def test_finished_updates_are_not_attacked_again(tmp_path, monkeypatch):
    todo = certificates.tasks(["none"], ["tanh"], 2, 1, updates.Source(), "quick")
    attacked = []

    def examined(task):
        attacked.append(task)
        return task.key | line("none", "open", [20.0], [20.0]) | task.key

    monkeypatch.setattr(certificates, "examined", examined)
    file, told = tmp_path / "lines.jsonl", []
    certificates.measure(todo[:1], file, 1, told.append)
    certificates.measure(todo, file, 1, told.append)
    assert attacked == todo
    assert len(common.read_rows(file)) == len(todo) == 3
    assert told[1].startswith("1/2")
    assert "left" in told[1]


def test_the_page_and_the_picture_are_those_of_the_figures(tmp_path):
    found = json.loads(json.dumps(certificates.summary(LINES)))
    text = certificates.page(found)
    assert "| none | 4 | 3 | 1 | 0 | 2 | +1.0 (" in text
    assert "Of 2 impostors 1 are proved" in text
    certificates.draw(found["points"], tmp_path / "points.png")
    assert (tmp_path / "points.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "points.png").stat().st_size < 150_000


@pytest.mark.parametrize("case", ["none", "MixUp", "local head", "aggregate of 2"])
def test_an_update_is_that_of_the_images_that_are_said_to_be_in_it(case):
    place = updates.Place(case=case, network="tanh", size=8, seed=1, round=2)
    posed = updates.update(place, updates.Source())
    seen, again = posed.observation, updates.update(place, updates.Source()).observation
    assert len(posed.images) == seen.images
    assert all(torch.equal(again.returned[n], value) for n, value in seen.returned.items())
    moved = {n for n, value in seen.returned.items() if not torch.equal(value, seen.sent[n])}
    assert ("head.weight" in moved) == (case != "local head")
    assert (seen.view == "aggregate") == (case == "aggregate of 2")


@pytest.mark.parametrize("kind", certificates.KINDS)
def test_impostors_are_updates_of_something_else(kind):
    place = updates.Place(case="none", network="tanh", size=8, seed=1, round=1)
    task = certificates.Task(place=place, source=updates.Source(), effort="quick", impostor=kind)
    posed = updates.update(place, task.source)
    found, own = certificates.impostor(task, posed), posed.observation
    other = "sent" if kind == "weights" else "returned"
    same = {"sent", "returned"} - {other}
    name = "head.weight"
    assert not torch.equal(getattr(found, other)[name], getattr(own, other)[name])
    for what in same:
        assert torch.equal(getattr(found, what)[name], getattr(own, what)[name])


def test_every_setting_beside_its_bound_is_one_that_there_is():
    for name, setting in attack_meets_bound.SETTINGS.items():
        assert not setting.case or setting.case in updates.CASES | updates.FURTHER, name
        assert set(setting.networks) <= set(attack_meets_bound.ACTIVATIONS), name
        assert setting.attack in ("standard", "encoder")
    todo = attack_meets_bound.tasks(["signs", "one image, 64x64, kermany"], ["SiLU", "GELU"], 2)
    told = [(task.setting[:5], task.network, task.repeat) for task in todo]
    first = [("signs", "GELU", 0), ("one i", "SiLU", 0), ("one i", "GELU", 0)]
    assert told == first + [(name, network, 1) for name, network, _ in first]
    with pytest.raises(SystemExit, match="'sings' is none of signs; top"):
        attack_meets_bound.names(["signs", "top"], "top; sings")


def test_rows_beside_the_bound_are_means_and_spreads_of_their_updates():
    line = {"setting": "signs", "network": "tanh", "bound": 40.0, "seconds": 2.0,
            "cpu_seconds": 1.0, "memory_gb": 0.5, "certificate": "proved"}  # fmt: skip
    failed = {"setting": "signs", "network": "tanh", "repeat": 2, "failure": "none"}
    lines = [line | {"psnr": 30.0}, line | {"psnr": 34.0, "certificate": "open"}, failed]
    (row,) = attack_meets_bound.summary(lines)
    assert row["psnr"] == {"mean": 32.0, "std": pytest.approx(8**0.5)}
    assert (row["updates"], row["proved"], row["failures"]) == (3, 1, 1)
    assert attack_meets_bound.spread([1.0, None]) is None
    assert "| signs, tanh | 3 | 32.0 ± 2.8 | 40.0 ± 0.0 | bound − 3 |" in beside_bound.page(lines)


def test_updates_beside_the_bound_are_attacked_once(tmp_path, monkeypatch):
    todo = attack_meets_bound.tasks(["signs"], ["tanh"], 3)
    file = tmp_path / "lines.jsonl"
    file.write_text(json.dumps(dataclasses.asdict(todo[1]) | {"psnr": 1.0}) + "\n")

    class Here:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, task, files):
            done = Future()
            done.set_result(dataclasses.asdict(task) | {"psnr": 2.0})
            return done

    monkeypatch.setattr(attack_meets_bound, "ProcessPoolExecutor", Here)
    files = attack_meets_bound.Files(pneumoniamnist=tmp_path)
    made = list(attack_meets_bound.measure(todo, files, file))
    assert [line["repeat"] for line in made] == [0, 2]
    assert not list(attack_meets_bound.measure(todo, files, file))
