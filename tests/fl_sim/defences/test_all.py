"""What holds for every defence: it runs in a federation, and its harmless strength is none."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from fl_sim.cli.app import main
from fl_sim.defences import DEFENCES, create
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.parse import parse

QUICK = {
    "rounds": 1,
    "clients": 2,
    "device": "cpu",
    "data.name": "embedded",
    "data.image-size": 32,
    "local.batch-size": 2,
    "adversary.attack": "dlg",
    "adversary.options": "dlg.iterations=2",
    "adversary.bounds": "off",  # they and the report would take most of the time
}
OPTIONS = {"large-batch": "factor=2"}  # a client has no more than 6 images here


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_runs_and_is_attacked(name, tmp_path, monkeypatch):
    monkeypatch.setattr("adversary.report.run_page.render", lambda *_: None)
    options = {"defence.options": OPTIONS[name]} if name in OPTIONS else {}
    settings = parse({**QUICK, **options, "out": str(tmp_path), "defence.name": name})
    run_in_process(settings)
    info = json.loads((tmp_path / "run.json").read_text())
    assert (info["status"], info.get("failures", [])) == ("completed", [])
    assert info["defence"]["protects"] == create(name).protects
    with (tmp_path / "rounds.csv").open() as file:
        [row] = csv.DictReader(file)
    assert float(row["loss"]) > 0
    assert 0 <= float(row["auc"]) <= 1
    with (tmp_path / "leakage.csv").open() as file:
        seen = {r["client"] for r in csv.DictReader(file)}
    alone = {"client-00", "client-01"}
    assert seen == ({"aggregate", "client-00-masked"} if name == "secure-aggregation" else alone)


def test_the_list_tells_what_each_protects(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    assert main(["list", "defences"]) == 0
    told = capsys.readouterr().out
    assert all(name in told and cls.protects in told for name, cls in DEFENCES.items())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gaussian-noise", {"scale": "0"}),
        ("percentile-noise", {"scale": "0"}),
        ("top-k", {"share": "1"}),
        ("top-k", {"share": "1", "scope": "global"}),
        ("soteria", {"percentage": "0"}),
    ],
)
def test_without_strength_it_is_none_bit_for_bit(name, options, client, seen):
    update = client(images=2)
    defence = create(name, options)
    observation = seen(defence, update)
    assert all(torch.equal(v, update.returned[n]) for n, v in observation.returned.items())
    channel = defence.channel(observation)
    assert not channel.observed
    assert not any(channel.noise.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("percentile-noise", {"scale": "-1"}, "scale = -1.0: must be a number >= 0"),
        ("percentile-noise", {"percentile": "100"}, "percentile = 100.0: must be a number > 0 and"),
        ("local-dp", {"clip": "0"}, "clip = 0.0: must be a number > 0"),
        ("local-dp", {"clip": "inf"}, "clip = inf: must be a number > 0"),
        ("local-dp", {"noise_multiplier": "-1"}, "noise_multiplier = -1.0: must be a number >= 0"),
        ("local-dp", {"delta": "1"}, "delta = 1.0: must be > 0 and < 1, or 0 for"),
        ("local-dp", {"statistics": "x"}, "statistics = x: must be one of frozen, clear"),
        ("top-k", {"share": "0"}, "share = 0.0: must be a number > 0 and <= 1"),
        ("top-k", {"scope": "layer"}, "scope = 'layer': must be one of array, global"),
        ("quantise", {"bits": "0"}, "bits = 0: must be an integer >= 1 and <= 16"),
        ("quantise", {"bits": "8.5"}, "bits = '8.5': must be an integer"),
        ("quantise", {"rounding": "up"}, "rounding = 'up': must be one of nearest, stochastic"),
        ("quantise", {"bits": "1", "rounding": "stochastic"}, "must be nearest where bits = 1"),
        ("soteria", {"percentage": "100"}, "percentage = 100.0: must be a number >= 0 and < 100"),
        ("partial-sharing", {"local": "tail"}, "local = 'tail': must be one of head, body, batch"),
        ("freezing", {"part": "tail"}, "part = 'tail': must be one of batch-norm, all-but"),
        ("mixup", {"alpha": "0"}, "alpha = 0.0: must be a number > 0"),
        ("augmentation", {"policy": "shift+blur"}, "policy = 'shift.blur': must be one or more of"),
        ("augmentation", {"strength": "3"}, "strength = 3.0: must be a number >= 0 and <= 2"),
        ("large-batch", {"factor": "0"}, "factor = 0: must be an integer >= 1"),
        ("more-steps", {"factor": "0"}, "factor = 0: must be an integer >= 1"),
    ],
)
def test_mistakes_are_named_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=f"^defence\\..*{message}") as error:
        create(name, options)
    assert "\n" not in str(error.value)
