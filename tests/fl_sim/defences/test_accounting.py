"""Accounts agree with closed forms, with opacus step by step, and with dp-accounting."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fl_sim.defences.accounting import (
    PrivacyError,
    default_delta,
    gaussian_account,
    noise_for_budget,
)

ABOUT = {"unit": "example", "against": "everyone"}


def epsilon(noise_multiplier, steps, delta, sample_rate=1.0):
    return gaussian_account(
        noise_multiplier=noise_multiplier, steps=steps, delta=delta, sample_rate=sample_rate,
        **ABOUT,
    ).epsilon  # fmt: skip


def exact_gaussian(noise_multiplier, steps, delta):
    """Epsilon of ``steps`` Gaussian releases without sampling (Balle and Wang 2018, theorem 8)."""
    mu = math.sqrt(steps) / noise_multiplier

    def excess(e):
        return norm.cdf(mu / 2 - e / mu) - np.exp(e + norm.logcdf(-mu / 2 - e / mu)) - delta

    return brentq(excess, 0, 200)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (2.0, 10), (5.0, 100), (0.7, 3)])
@pytest.mark.parametrize("delta", [1e-2, 1e-5])
def test_without_sampling_it_is_the_closed_form_of_renyi_dp(noise, steps, delta):
    a = np.linspace(1.01, 63, 200_000)
    renyi = steps * a / (2 * noise**2)
    closed = (renyi + np.log1p(-1 / a) - (np.log(delta) + np.log(a)) / (a - 1)).min()
    assert epsilon(noise, steps, delta) == pytest.approx(closed, rel=0.01)
    assert epsilon(noise, steps, delta) >= exact_gaussian(noise, steps, delta)


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.1, 1000), (0.1, 1.0, 50),
                                                      (0.5, 2.0, 20), (1.0, 4.0, 30)])  # fmt: skip
def test_it_agrees_with_opacus_step_by_step_and_with_dp_accounting(rate, noise, steps):
    opacus, google = RDPAccountant(), rdp.RdpAccountant()
    for _ in range(steps):
        opacus.step(noise_multiplier=noise, sample_rate=rate)
    gaussian = dp_accounting.GaussianDpEvent(noise)
    google.compose(dp_accounting.PoissonSampledDpEvent(rate, gaussian), steps)
    found = epsilon(noise, steps, 1e-5, rate)
    assert found == pytest.approx(opacus.get_epsilon(1e-5), rel=1e-9)
    assert found == pytest.approx(google.get_epsilon(1e-5), rel=0.01)


def test_an_account_says_all_that_it_takes_to_read_it():
    account = gaussian_account(noise_multiplier=1.0, steps=3, delta=1e-3, **ABOUT)
    assert (account.delta, account.accountant) == (1e-3, "RDP (opacus)")
    assert (account.neighbours, account.unit) == ("add or remove one", "example")


def test_where_the_conversion_goes_below_zero_nothing_is_lost():
    google = rdp.RdpAccountant().compose(dp_accounting.GaussianDpEvent(5e3))
    assert epsilon(5e3, 1, 1e-2) == google.get_epsilon(1e-2) == 0


def test_without_noise_there_is_no_account_and_without_steps_no_loss():
    assert gaussian_account(noise_multiplier=0.0, steps=1, delta=1e-5, **ABOUT) is None
    assert epsilon(1.0, 0, 1e-5) == 0


@settings(max_examples=12)
@given(
    noise=st.floats(0.6, 8), rate=st.floats(0.01, 1), steps=st.integers(1, 50),
    delta=st.sampled_from([1e-2, 1e-4]),
)  # fmt: skip
def test_more_steps_cost_more_and_more_noise_costs_less(noise, rate, steps, delta):
    here = epsilon(noise, steps, delta, rate)
    assert epsilon(noise, steps + 5, delta, rate) >= here
    assert epsilon(noise * 1.5, steps, delta, rate) <= here
    assert epsilon(noise, steps, delta, rate / 2) <= here + 1e-9


@pytest.mark.parametrize("target", [0.5, 1.0, 3.0, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.05, 100), (1.0, 5)])
def test_the_noise_for_a_budget_keeps_it_and_hardly_more(target, rate, steps):
    noise = noise_for_budget(target, delta=1e-5, steps=steps, sample_rate=rate)
    assert target * 0.998 <= epsilon(noise, steps, 1e-5, rate) <= target


def test_a_budget_that_no_noise_keeps_is_named_in_one_line():
    with pytest.raises(PrivacyError, match=r"^defence.epsilon = 0.01: cannot") as error:
        noise_for_budget(0.01, delta=1e-5, steps=1)
    assert "\n" not in str(error.value)


def test_delta_is_below_one_over_the_units():
    assert [default_delta(n) for n in (1, 90, 9000)] == [1e-2, 1e-2, 1e-4]
