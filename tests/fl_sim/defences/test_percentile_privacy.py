"""What is shared is what numpy says, and an attacker knows which entries came whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fl_sim.defences import create


@pytest.mark.parametrize(("percentile", "gamma"), [(0, 1.0), (10, 0.01), (90, 1e-3), (60, 2e-4)])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_shared_is_what_numpy_says(percentile, gamma, seed, client, seen):
    update = client(images=2, seed=seed)
    defence = create("percentile-privacy", {"percentile": str(percentile), "gamma": str(gamma)})
    observation = seen(defence, update)
    delta = {n: (v.double() - update.sent[n].double()).numpy() for n, v in update.returned.items()}
    cutoff = np.percentile(np.abs(np.concatenate([d.ravel() for d in delta.values()])), percentile)
    masks = defence.channel(observation).observed
    whole = 0
    for name, value in observation.returned.items():
        shared = np.clip(np.where(np.abs(delta[name]) >= cutoff, delta[name], 0), -gamma, gamma)
        sent = update.sent[name].double().numpy()
        np.testing.assert_allclose(value.double().numpy() - sent, shared, atol=3e-8)
        assert torch.equal(value[masks[name]], update.returned[name][masks[name]])
        whole += int(masks[name].sum())
    between = sum(
        int(((np.abs(d) >= cutoff) & (np.abs(d) < 0.998 * gamma) & (d != 0)).sum())
        for d in delta.values()
    )
    assert whole >= between


def test_an_attacker_that_leaves_the_rest_out_still_sees_the_image(client, seen, psnr_of_dlg):
    update = client()
    defence = create("percentile-privacy", {"percentile": "50", "gamma": "1"})
    observation = seen(defence, update)
    assert psnr_of_dlg(observation, defence.channel(observation), update) > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": "100"}, "percentile = 100.0: must be a number >= 0 and < 100"),
        ({"gamma": "0"}, "gamma = 0.0: must be a number > 0"),
        ({"gamma": "nan"}, "gamma = nan: must be a number > 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create("percentile-privacy", options)
