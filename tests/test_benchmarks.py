"""``make bench`` calls every script with options that it has."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from benchmarks import exact_recovery, realistic
from benchmarks.suite import CLAIMS

UNKNOWN = "--no-such-option"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_the_options_of_every_claim_are_understood(claim, monkeypatch, capsys):
    script = importlib.import_module(f"benchmarks.{claim.module}")
    monkeypatch.setattr(sys, "argv", [claim.module, *claim.arguments, UNKNOWN])
    with pytest.raises(SystemExit):
        script.main()
    assert capsys.readouterr().err.strip().endswith(f"unrecognized arguments: {UNKNOWN}")


def test_every_row_of_the_realistic_benchmark_is_told_from_the_others():
    rows = realistic.read_rows(realistic.ROWS)
    assert len({realistic.key(row) for row in rows}) == len(rows)


def test_a_row_that_a_time_limit_ended_takes_no_place_of_a_whole_one(tmp_path):
    file = tmp_path / "rows.json"
    row = dict.fromkeys(exact_recovery.SETTINGS, 1)
    ended = ["seconds", "converged", "seconds", "evaluations"]
    for psnr, (stopped, expected) in enumerate(zip(ended, [0, 1, 1, 3], strict=True)):
        exact_recovery.keep([row | {"stopped": stopped, "psnr": psnr}], file)
        assert [one["psnr"] for one in json.loads(file.read_text())["rows"]] == [expected]
