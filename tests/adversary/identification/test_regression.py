"""The regression beside its closed form, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adversary.identification.one_update import LEFT, _fitted_to_what_is_left
from adversary.identification.regression import (
    BACKGROUND,
    Equations,
    _own_products,
    directions,
    left_out,
    regress,
)


def system(seed, equations=60, candidates=5, background=4):
    draws = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, candidates, equations, generator=draws)
    rows[1] *= 0.3
    others = torch.randn(2, background, equations, generator=draws)
    shared = torch.randn(3, equations, generator=draws)
    misfit = 0.02 * torch.rand(equations, generator=draws) + 0.005
    noise = torch.rand(equations, generator=draws)
    return rows, others, shared, misfit, noise, torch.randn(equations, generator=draws)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("with_noise", [False, True])
def test_it_is_the_posterior_mean_of_generalised_least_squares(seed, with_noise):
    rows, others, shared, misfit, noise, data = system(seed)
    fit = regress(
        *(data, rows, others), misfit=misfit, shared=shared, noise=noise if with_noise else None
    )
    matrix = np.concatenate([rows.flatten(0, 1), BACKGROUND * others.flatten(0, 1), shared])
    variance = misfit.double().numpy() * float(rows[0].double().square().sum(1).mean())
    variance = variance + noise.double().numpy() ** 2 * with_noise
    gram = matrix @ np.diag(1 / variance) @ matrix.T
    posterior = np.linalg.inv(gram + np.eye(len(gram)))
    share = posterior @ matrix @ (data.numpy() / variance)
    gain = posterior @ gram  # from true shares to their estimates
    spread = np.sqrt(np.diag(posterior @ gram @ posterior.T))
    np.testing.assert_allclose(fit.share, share[:5], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit.resolution, np.diag(gain)[:5], rtol=1e-3)
    np.testing.assert_allclose(fit.deviation, spread[:5], rtol=1e-3)
    np.testing.assert_allclose(fit.explained, share @ matrix, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_chi_square_says_by_how_much_more_is_left_than_thought(factor):
    found = []
    for seed in range(40):
        rows, others, shared, misfit, _, _ = system(seed, equations=300)
        variance = misfit * rows[0].square().sum(1).mean()
        draws = torch.Generator().manual_seed(100 + seed)
        told = rows[0, :2].sum(0) + 0.5 * shared[0]
        told = told + (factor * variance).sqrt() * torch.randn(300, generator=draws)
        found.append(regress(told, rows, others, misfit=misfit, shared=shared).chi_square)
    assert np.mean(found) == pytest.approx(factor, rel=0.1)


def test_what_is_shared_is_nobodys():
    rows, others, shared, _, _, _ = system(0)
    alone = regress(shared[0], rows, others, misfit=1e-4)
    known = regress(shared[0], rows, others, misfit=1e-4, shared=shared)
    assert float(known.share.abs().max()) < 0.5 * float(alone.share.abs().max())


@pytest.mark.parametrize("most", [1, 2, 3])
def test_directions_and_what_they_leave_out_are_all_of_the_change(most):
    draws = torch.Generator().manual_seed(most)
    parts = torch.randn(3, 4, 7, generator=draws)
    kept, rest = directions(parts, 0.5, most)[1:], left_out(parts, 0.5, most)
    apart = 0.5 * (4 * parts - parts.sum(1, keepdim=True))
    whole = torch.einsum("ntp,ntq->npq", apart, apart)
    found = torch.einsum("dnp,dnq->npq", kept, kept) + torch.einsum("ntp,ntq->npq", rest, rest)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    assert (float(rest.abs().max()) < 1e-4) == (most == 3)


@pytest.mark.parametrize("times", [0.2, 1.0, 30.0])
def test_so_many_times_the_variances_is_a_fit_with_so_many_times_the_misfit(times):
    rows, others, shared, misfit, _, data = system(1)
    found = Equations(data, rows, others, None, misfit, shared).fit(times)
    theirs = regress(data, rows, others, misfit=times * misfit, shared=shared)
    for name, value in vars(theirs).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("factor", [0.05, 1.0, 50.0])
def test_variances_are_fitted_to_what_is_left(factor):
    rows, others, shared, misfit, _, _ = system(2, equations=600)
    variance = misfit * rows[0].square().sum(1).mean()
    draws = torch.Generator().manual_seed(1)
    told = rows[0, :2].sum(0) + (factor * variance).sqrt() * torch.randn(600, generator=draws)
    equations = Equations(told, rows, others, None, misfit, shared)
    assert LEFT / 2 < _fitted_to_what_is_left(equations, 1e-9).chi_square < 2 * LEFT
    least = 1e3 * factor  # less is not taken
    assert _fitted_to_what_is_left(equations, least).chi_square < LEFT / 10


def test_products_that_are_too_coarse_are_given_more_noise():
    rows, others, _, misfit, _, data = system(3)
    equations = Equations(data, rows, others, None, misfit, None)
    values, vectors = torch.linalg.eigh(equations.gram)
    values[0] = -1.5  # as by rounding of large sums
    equations.gram = vectors @ values.diag() @ vectors.T
    with pytest.raises(torch.linalg.LinAlgError):
        equations.fit(1.0)
    found = _fitted_to_what_is_left(equations, 1e-9)
    assert bool(torch.isfinite(found.statistic).all())


@pytest.mark.parametrize("count", [1, 5, 40])
def test_products_of_rows_with_each_other_are_all_there(count):
    rows = torch.randn(count, 3000, generator=torch.Generator().manual_seed(count))
    whole = _own_products(rows)
    torch.testing.assert_close(whole, rows.double() @ rows.double().T)
