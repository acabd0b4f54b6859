"""Levels of a run's rows: what an account against the server settles, and what it does not."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from adversary.report.leakage_rows import (
    judged,
    last_accounts,
    private_ceiling,
    private_ceilings,
    with_levels,
)
from adversary.scoring.verdict import PRIVATE_CEILING, Severity

SERVER = "everyone who sees updates or models, the server included"
OTHERS = "those who see the released models alone, not the server"
POOR = {
    "round": 1, "client": "client-00", "attack": "standard", "image": 0, "status": "ok",
    "psnr": 9.0, "rdlv": -0.5, "reidentified": False, "prior_psnr": 18.0, "bound_psnr": 60.0,
}  # fmt: skip


def account(epsilon, against=SERVER, client="client-00", round=1):
    return {
        "client": client, "round": round, "epsilon": epsilon, "delta": 1e-5, "against": against
    }  # fmt: skip


@pytest.mark.parametrize(
    ("epsilon", "against", "expected"),
    [
        (1.0, SERVER, Severity.PROTECTED),
        (8.0, SERVER, Severity.OPEN),
        (1.0, OTHERS, Severity.OPEN),
        (math.inf, SERVER, Severity.OPEN),
        (None, SERVER, Severity.OPEN),
        (1.0, None, Severity.OPEN),
    ],
)
def test_only_a_strong_account_against_the_server_settles_a_failed_attack(
    epsilon, against, expected
):
    rows = with_levels(pd.DataFrame([POOR]), [account(epsilon, against)])
    assert judged(rows) is expected


def test_an_account_holds_for_its_own_client_alone():
    both = pd.DataFrame([POOR, POOR | {"client": "client-01"}])
    levels = [row["level"] for row in with_levels(both, [account(0.5)])]
    assert levels == [Severity.PROTECTED, Severity.OPEN]


def test_what_all_rounds_spent_together_counts():
    accounts = pd.DataFrame([account(0.4), account(2.5, round=5), account(0.9, client="client-01")])
    assert private_ceilings(last_accounts(accounts)) == {
        "client-00": private_ceiling(2.5, 1e-5),
        "client-01": private_ceiling(0.9, 1e-5),
    }


def test_an_epsilon_of_one_is_about_where_a_guarantee_settles():
    assert private_ceiling(1.0, 1e-5) == pytest.approx(math.e * 0.01 + 1e-5)
    assert private_ceiling(1.0, 1e-5) < PRIVATE_CEILING < private_ceiling(1.15, 1e-5)
