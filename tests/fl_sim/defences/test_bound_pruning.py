"""The criterion against the exact Jacobian, and what is left of the information."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, grad, jacfwd

from adversary.observation.mechanisms.bound_placement import squared_sensitivities
from fl_sim.defences import create


def exact(update):
    """Return ||dg_i / dx||^2 of every entry, by the whole Jacobian."""
    net = update.model.eval()
    weights = {name: update.sent[name] for name, _ in net.named_parameters()}

    def gradient(x):
        def loss(given):
            return torch.nn.functional.cross_entropy(
                functional_call(net, given, (x,)), update.labels
            )

        return grad(loss)(weights)

    rows = jacfwd(gradient)(update.images)
    squared = {n: r.flatten(weights[n].ndim).square().sum(-1).double() for n, r in rows.items()}
    return squared, gradient


@pytest.mark.parametrize("seed", range(2))
def test_the_estimate_is_that_of_the_jacobian(seed, client):
    update = client(images=2, seed=seed)
    squared, gradient = exact(update)
    found = squared_sensitivities(gradient, update.images, torch.Generator().manual_seed(seed))
    for name, value in squared.items():
        assert float(found[name].sum() / value.sum()) == pytest.approx(1, rel=0.5)
    everything = [torch.cat([v.flatten() for v in of.values()]) for of in (found, squared)]
    big = everything[1] > everything[1].quantile(0.5)
    ratio = (everything[0][big] / everything[1][big]).log()
    assert float(ratio.std()) < 0.6  # a mean of 16 squares of normals: .37
    assert abs(float(ratio.mean())) < 0.2


@pytest.mark.parametrize("scope", ["array", "global"])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_what_is_sent_tells_less_for_the_same_step_than_top_k(share, scope, client, seen):
    update = client(images=2)
    squared, _ = exact(update)
    told = {}
    for name in ("bound-pruning", "top-k"):
        left = seen(create(name, {"share": str(share), "scope": scope}), update).returned
        sent = {n: left[n] != update.sent[n] for n in squared}
        delta = {n: update.returned[n].double() - update.sent[n].double() for n in squared}
        step = sum(float((delta[n] * sent[n]).square().sum()) for n in squared)
        trace = sum(float((squared[n] * sent[n]).sum()) for n in squared)
        told[name] = trace / step
        if name == "bound-pruning" and scope == "array":
            counts = {n: math.ceil(share * mask.numel()) for n, mask in sent.items()}
            assert all(int(mask.sum()) <= counts[n] for n, mask in sent.items())
    assert told["bound-pruning"] < told["top-k"]


def test_the_attacker_knows_what_was_sent(client, seen):
    update = client()
    defence = create("bound-pruning", {"share": "0.2"})
    observation = seen(defence, update)
    for name, mask in defence.channel(observation).observed.items():
        assert torch.equal(mask, observation.returned[name] != observation.sent[name])


def test_all_of_it_is_none(client, seen):
    update = client(images=2)
    left = seen(create("bound-pruning", {"share": "1"}), update).returned
    assert all(torch.equal(value, update.returned[name]) for name, value in left.items())
