"""``make bench`` calls every script with options that it has."""

from __future__ import annotations

import importlib
import sys

import pytest

from benchmarks import realistic
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
