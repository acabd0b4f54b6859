from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import binomtest

from adversary.report.identified import lines, strongest
from adversary.storage.schemas import IDENTIFICATION


def frame(*rows):
    columns = {name: [row.get(name) for row in rows] for name in IDENTIFICATION}
    return pd.DataFrame({n: pd.Series(v, dtype=IDENTIFICATION[n]) for n, v in columns.items()})


def row(client="client-00", round=1, members=100, tpr_1=0.98, **others):
    return {"client": client, "round": round, "members": members, "tpr_1": tpr_1, **others}


def test_intervals_are_those_of_clopper_and_pearson():
    [one] = lines(frame(row(members=50, tpr_1=0.4)))
    exact = binomtest(20, 50).proportion_ci(method="exact")
    assert (one.hits, one.low, one.high) == (
        20,
        pytest.approx(exact.low),
        pytest.approx(exact.high),
    )


def test_rows_without_a_figure_are_left_out_and_joined_rounds_come_first():
    found = lines(frame(row(round=2), row(round=None), {"client": "client-01", "round": 1}))
    assert [one.row["round"] for one in found] == [None, 2]
    assert "all rounds joined" in found[0].words
    assert "98 of 100 patients of client-00" in found[0].words


def test_the_strongest_is_the_surest_share_and_chance_is_none():
    many, all_of_few = row(members=283, tpr_1=0.5), row("client-01", members=16, tpr_1=1.0)
    assert strongest(lines(frame(many, all_of_few))).row["client"] == "client-01"
    assert strongest(lines(frame(row(tpr_1=0.02)))) is None
    assert strongest([]) is None
