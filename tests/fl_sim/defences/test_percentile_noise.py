"""The noise follows NVFlare's rule, and the attacker finds its size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fl_sim.defences import create


def with_deltas(update, draw):
    """Return the update with every weight moved by what ``draw`` gives for a shape."""
    returned = {n: v + draw(v.shape) for n, v in update.sent.items()}
    return dataclasses.replace(update, returned=returned)


def normal(random):
    return lambda shape: 0.01 * torch.randn(shape, generator=random)


def laplace(random):
    def draw(shape):
        one, other = (torch.empty(shape).exponential_(generator=random) for _ in range(2))
        return 0.01 * (one - other)

    return draw


@pytest.mark.parametrize(("scale", "percentile"), [(0.5, 95.0), (3.0, 50.0)])
def test_sigma_is_a_share_of_a_percentile_of_what_moved(scale, percentile, client, seen):
    update = client(images=2)
    update.returned["body.2.weight"][:16] = update.sent["body.2.weight"][:16]
    options = {"scale": str(scale), "percentile": str(percentile)}
    left = seen(create("percentile-noise", options), update).returned
    moved = np.concatenate(
        [np.abs((v.double() - update.sent[n].double()).numpy()).ravel()
         for n, v in update.returned.items()]
    )  # fmt: skip
    expected = scale * np.percentile(moved[moved > 0], percentile)
    for name in ("body.2.weight", "body.4.weight"):
        noise = (left[name].double() - update.returned[name].double()).numpy()
        assert noise.std() == pytest.approx(expected, rel=0.03)


def test_an_update_of_nothing_stays(client, seen):
    update = dataclasses.replace(client(), returned=client().sent)
    defence = create("percentile-noise")
    observation = seen(defence, update)
    assert all(torch.equal(v, update.sent[n]) for n, v in observation.returned.items())
    assert defence.channel(observation).noise == {}


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 5.0, 25.0])
@pytest.mark.parametrize(("deltas", "tolerance"), [(normal, 0.02), (laplace, 0.2)])
def test_an_attacker_works_out_the_noise(scale, deltas, tolerance, client, seen):
    update = with_deltas(client(), deltas(torch.Generator().manual_seed(3)))
    defence = create("percentile-noise", {"scale": str(scale)})
    observation = seen(defence, update)
    known = defence.channel(observation).noise["body.4.weight"]
    noise = observation.returned["body.4.weight"].double() - update.returned["body.4.weight"]
    if scale in (0.01, 25.0):
        tolerance = 0.02  # the limits, right for any update
    assert known == pytest.approx(float(noise.std()), rel=tolerance)
