import numpy as np
import pytest
import torch

from adversary.optim.distances import array_distance, cosine_distance


def pairs(candidates, seed, apart=1.0):
    """Return gradients of R candidates and an observed one, apart by that share, in float64."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 2, 2), "b": (5,), "c": ()}
    observed = {n: torch.randn(s, generator=draw, dtype=torch.float64) for n, s in shapes.items()}
    found = {
        n: 3 * (o + apart * torch.randn(candidates, *o.shape, generator=draw, dtype=torch.float64))
        for n, o in observed.items()
    }
    return found, observed


def by_definition(found, observed):
    """1 - cos of each candidate, differentiated by autograd."""
    rows = torch.cat([found[n].reshape(len(found[n]), -1) for n in observed], dim=1)
    return 1 - torch.cosine_similarity(
        rows, torch.cat([o.flatten() for o in observed.values()])[None]
    )


def derivative(distance, found, observed, weights):
    leaves = {n: g.clone().requires_grad_() for n, g in found.items()}
    value = (weights.to(leaves["a"]) * distance(leaves, observed)).sum()
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_cosine_distance_has_the_derivative_of_its_definition(candidates, seed):
    found, observed = pairs(candidates, seed)
    weights = torch.rand(candidates, generator=torch.Generator().manual_seed(seed)) - 0.5
    torch.testing.assert_close(cosine_distance(found, observed), by_definition(found, observed))
    expected = derivative(by_definition, found, observed, weights)
    for name, got in derivative(cosine_distance, found, observed, weights).items():
        torch.testing.assert_close(got, expected[name])


def test_the_derivative_keeps_its_digits_near_the_observed_gradient():
    found, observed = pairs(2, seed=2, apart=1e-4)
    weights = torch.ones(2)
    expected = derivative(by_definition, found, observed, weights)
    single = [{n: v.float() for n, v in part.items()} for part in (found, observed)]
    for name, got in derivative(cosine_distance, *single, weights).items():
        wrong = torch.linalg.vector_norm(got.double() - expected[name])
        assert wrong < 5e-3 * torch.linalg.vector_norm(expected[name])


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_every_array_counts_alike_in_the_array_distance(scale):
    found, observed = pairs(1, seed=3)
    found, observed = {n: g[0] for n, g in found.items()}, {**observed, "b": scale * observed["b"]}
    found["b"] = scale * found["b"]
    expected = sum(
        (np.linalg.norm(np.subtract(found[n], g)) / np.linalg.norm(g)) ** 2
        for n, g in observed.items()
    )
    assert array_distance(found, observed) == pytest.approx(expected)
    assert array_distance(observed, observed) == 0
