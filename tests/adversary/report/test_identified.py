from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from adversary.report.identified import claimed, lines, naming
from adversary.storage.schemas import IDENTIFICATION


def frame(*rows):
    columns = {name: [row.get(name) for row in rows] for name in IDENTIFICATION}
    return pd.DataFrame({n: pd.Series(v, dtype=IDENTIFICATION[n]) for n, v in columns.items()})


def row(client="client-00", round=1, members=100, tpr_1=0.98, others=200, **cells):
    return {"client": client, "round": round, "members": members, "tpr_1": tpr_1,
            "candidates": members + others, **cells}  # fmt: skip


def strongest(*rows):
    return naming([frame(*rows)]).strongest


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
    assert strongest(many, all_of_few).row["client"] == "client-01"
    assert strongest(row(tpr_1=0.02)) is None
    assert naming([]).strongest is None


def test_one_of_one_is_chance_and_one_of_one_everywhere_is_not():
    one = [row(f"client-{i:02}", members=1, tpr_1=float(i == 0)) for i in range(12)]
    assert naming([frame(*one)]).chance > 0.1
    every = [row(f"client-{i:02}", members=1, tpr_1=1.0) for i in range(12)]
    assert naming([frame(*every)]).chance < 1e-6


def test_chance_over_runs_without_leaks_is_rarely_small():
    draws = np.random.default_rng(0)
    small = 0
    for _ in range(300):
        rows = []
        for client in range(4):
            scores = draws.normal(size=230)
            threshold = np.sort(scores[30:])[::-1][2]  # 200 others, of whom two may be above
            hits = (scores[:30] > threshold).mean()
            rows += [row(f"client-{client}", round=n, members=30, tpr_1=hits) for n in (1, 2)]
        small += naming([frame(*rows)]).chance < 0.05
    assert small / 300 < 0.08


def test_shares_are_over_all_updates_and_masked_ones_count_for_nothing():
    found = naming([
        frame(row(members=10, tpr_1=1.0, auc=0.9, named=0.5), row(round=None, tpr_1=0.0)),
        frame(row(members=30, tpr_1=0.5, auc=0.7, named=0.1), row("client-00-masked", tpr_1=0.0)),
    ])  # fmt: skip
    assert found.auc == pytest.approx(0.8)
    assert found.tpr_1 == pytest.approx(25 / 40)
    assert found.named == pytest.approx(8 / 40)
    assert len(found.lines) == 3


def test_an_account_holds_from_its_round_on_and_only_against_the_server():
    rows = [(1, "a", 1.0, "x (server included)"), (3, "a", 2.0, "x (server included)"),
            (1, "b", 1.0, "other clients")]  # fmt: skip
    accounts = pd.DataFrame(rows, columns=["round", "client", "epsilon", "against"])
    account = claimed(accounts.assign(delta=1e-5))
    assert account(2, "a") == (1.0, 1e-5)
    assert account(3, "a") == (2.0, 1e-5)
    assert account(3, "b") is None


def test_more_epsilon_than_claimed_refutes_the_account():
    fine = row(epsilon=3.0, epsilon_lower=0.5)
    wrong = row("client-01", round=None, epsilon=3.0, epsilon_lower=5.2)
    assert naming([frame(row())]).refuting is None
    assert naming([frame(fine)]).refuting is None
    found = naming([frame(fine, wrong)]).refuting
    assert found.refutation == (
        "Who was named in the updates of client-01 (all rounds joined) proves an ε of at least "
        "5.2, and the account claims 3."
    )
