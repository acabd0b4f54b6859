"""What is stated of an estimate, row by row, and of updates that are not what they seem."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adversary import Prior, ThreatModel, TrainingRecipe
from adversary.attacks import Standard
from adversary.attacks.certificates import Goodness, Posterior, Rival, Tried, certify, prior_psnr
from adversary.attacks.certificates.certify import (
    MAX_CURVATURE,
    MAX_NULL_GAIN_DB,
    MAX_PRIOR_SHARE,
    MAX_UNKNOWN_SHARE,
    MIN_COST_DIFFERENCE,
    MIN_DISTANCE_STD,
    MIN_GAIN_DB,
)
from adversary.observation.channel import Channel
from adversary.priors.gaussian import GaussianPrior
from adversary.problem.problem import build_problem

SHAPE = (2, 1, 8, 8)
PRIOR = GaussianPrior(
    torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64),
    torch.zeros(1, 64, dtype=torch.float64),
    torch.full((64,), 0.01, dtype=torch.float64),
)
EXPLAINED = Goodness(chi_square=1.0, deviation=0.5, worst=0.5, rounded=1.0)
MISFIT = Goodness(chi_square=1.2, deviation=9.0, worst=9.0, rounded=1.0)


def posterior(*gains, parameters=100.0, settled=True, by_prior=0.0, curvature=0.0):
    """Return one whose images are expected so many dB above the prior's."""
    errors = [10 ** (-(prior_psnr(PRIOR) + gain) / 10) for gain in gains]
    variance = torch.stack([torch.full(SHAPE[1:], error) for error in errors])
    images = torch.full(variance.shape, 0.5)
    return Posterior(
        images=images,
        estimate=images,
        variance=variance,
        parameters=parameters,
        by_array=(),
        freedom=torch.full((len(gains),), 64.0),
        settled=settled,
        by_prior=by_prior,
        curvature=curvature,
    )


def rival(cost, *, apart=0.0, labels=(0, 1)):
    images = torch.full(SHAPE, 0.5 + apart)
    return Rival(images=images, labels=torch.tensor(labels), cost=cost)


def stated(
    gains=(20.0, 20.0),
    fit=EXPLAINED,
    rivals=(),
    *,
    equations=1000,
    complete=True,
    confirmed=False,
    **given,
):
    tried = Tried(equations=equations, rivals=rivals, complete=complete, confirmed=confirmed)
    found = certify(rival(0.0), posterior(*gains, **given), fit, PRIOR, tried)
    return found.certificate, found.flags


def error(gain):
    """Return the root mean squared error that goes with a gain."""
    return 10 ** (-(prior_psnr(PRIOR) + gain) / 20)


def test_what_is_explained_by_nothing_else_and_told_clearly_is_proved():
    assert stated() == ("proved", ())
    assert stated((MIN_GAIN_DB + 0.1, MIN_GAIN_DB + 0.1)) == ("proved", ())


@pytest.mark.parametrize("gain", [0.5 * MAX_NULL_GAIN_DB, 20.0])
def test_a_misfit_is_open_whatever_is_promised(gain):
    assert stated((gain, gain), MISFIT) == ("open", ("misfit",))


def test_where_nothing_is_told_of_any_image_that_is_stated():
    assert stated((0.9 * MAX_NULL_GAIN_DB, 0.1)) == ("nothing", ())
    assert stated((1.1 * MAX_NULL_GAIN_DB, 0.1))[0] == "open"


def test_little_is_not_enough_for_a_proof():
    assert stated((MIN_GAIN_DB - 0.1, MIN_GAIN_DB - 0.1)) == ("open", ())


def test_images_that_the_update_does_not_tell_are_flagged():
    assert stated((20.0, 0.5)) == ("open", ("fewer-told",))


def test_what_the_prior_decides_is_not_proved():
    assert stated(by_prior=0.9 * MAX_PRIOR_SHARE) == ("proved", ())
    assert stated(by_prior=1.1 * MAX_PRIOR_SHARE) == ("open", ("rests-on-prior",))
    assert stated((20.0, 0.5), by_prior=0.9) == ("open", ("fewer-told",))


def test_a_posterior_that_is_not_normal_over_its_own_spread_proves_nothing():
    assert stated(curvature=0.9 * MAX_CURVATURE) == ("proved", ())
    assert stated(curvature=1.1 * MAX_CURVATURE) == ("open", ("several-explanations",))


def test_other_images_that_cost_little_more_leave_it_open():
    far = 1.05 * MIN_DISTANCE_STD * math.sqrt(2) * error(20.0)
    several = ("open", ("several-explanations",))
    assert stated(rivals=[rival(MIN_COST_DIFFERENCE - 0.1, apart=far)]) == several
    assert stated(rivals=[rival(MIN_COST_DIFFERENCE + 0.1, apart=far)]) == ("proved", ())


def test_the_same_images_found_again_are_no_rival():
    near = 0.95 * MIN_DISTANCE_STD * math.sqrt(2) * error(20.0)
    assert stated(rivals=[rival(0.1, apart=near)]) == ("proved", ())
    assert stated(rivals=[rival(0.1, apart=near, labels=(1, 0))]) == ("proved", ())


def test_labels_that_were_not_tried_leave_it_open():
    assert stated(complete=False) == ("open", ("several-explanations",))
    assert stated(settled=False) == ("open", ("several-explanations",))


def test_a_fit_of_as_many_unknowns_as_equations_says_nothing_but_where_it_is_found_twice():
    many = MAX_UNKNOWN_SHARE * 1000 + 1
    assert stated(parameters=many) == ("open", ("several-explanations",))
    assert stated(parameters=many, confirmed=True) == ("proved", ())


def smooth(count, draw):
    """Return smooth random images (N, 1, 8, 8), all around one mean."""
    waves = torch.linspace(0, math.pi, 8).mul(torch.arange(1, 4)[:, None]).cos()
    weights = 0.06 * torch.randn(count, 1, 3, 3, generator=draw)
    mean = 0.5 + 0.2 * waves[0][:, None] * waves[0]
    return (mean + torch.einsum("ncij,ia,jb->ncab", weights, waves, waves)).clamp(0, 1)


@pytest.fixture
def attacked(tiny_net, update):
    """Return what the standard adversary states of an update, and of what is none."""

    def attack(sent_seed=1, returned_seed=1, noise=0.0):
        draw = torch.Generator().manual_seed(5)
        xrays = smooth(25, draw)
        recipe = TrainingRecipe(lr=0.1, batch_size=1)
        seen = update(tiny_net(seed=returned_seed), xrays[:1], torch.tensor([1]), recipe)
        sent = {n: v.clone() for n, v in tiny_net(seed=sent_seed).state_dict().items()}
        moved = {n: v - seen.sent[n] for n, v in seen.returned.items()}
        level = {n: noise * float(m.square().mean().sqrt()) for n, m in moved.items()}
        returned = {
            n: v + level[n] * torch.randn(v.shape, generator=draw) for n, v in seen.returned.items()
        }
        posed = build_problem(
            dataclasses.replace(seen, sent=sent, returned=returned),
            ThreatModel(channel=Channel(noise=level if noise else {})),
            tiny_net(),
            image_shape=(1, 8, 8),
            prior=Prior(xrays[1:]),
        )
        return Standard(effort="quick").run(posed, seed=0)

    return attack


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_an_update_is_explained_but_not_with_other_weights_and_never_proved_so(attacked, noise):
    own = attacked(noise=noise)
    assert own.flags == ()
    assert own.member == "gauss-newton"
    for impostor in attacked(sent_seed=2, noise=noise), attacked(returned_seed=2, noise=noise):
        assert impostor.certificate == "open"
        assert impostor.flags == ("misfit",)
