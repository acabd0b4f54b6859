"""The largest entries are sent and no others, and the attacker knows which."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adversary.observation.channel import Channel
from adversary.observation.mechanisms.top_k import _largest
from fl_sim.defences import create


@given(
    st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=40),
    st.floats(0.01, 1),
)
def test_as_many_as_asked_and_none_smaller_than_what_is_left(values, share):
    tensor = torch.tensor(values)
    mask = _largest(tensor, share)
    assert int(mask.sum()) == math.ceil(share * len(values))
    if not mask.all():
        assert float(tensor[mask].min()) >= float(tensor[~mask].max())


@pytest.mark.parametrize("share", [0.02, 0.4])
@pytest.mark.parametrize("scope", ["array", "global"])
def test_what_is_sent_is_what_a_sort_says(share, scope, client, seen):
    update = client(images=2)
    left = seen(create("top-k", {"share": str(share), "scope": scope}), update).returned
    moved = {n: (v.double() - update.sent[n].double()).abs().numpy() for n, v in
             update.returned.items()}  # fmt: skip
    flat = np.concatenate([m.ravel() for m in moved.values()])
    for name, value in left.items():
        among = moved[name].ravel() if scope == "array" else flat
        threshold = np.sort(among)[::-1][math.ceil(share * among.size) - 1]
        kept = torch.from_numpy(moved[name] >= threshold)
        assert torch.equal(value, torch.where(kept, update.returned[name], update.sent[name]))


def test_buffers_leave_whole(client, seen):
    update = client(model="resnet18-sigmoid", images=2)
    left = seen(create("top-k", {"share": "0.01"}), update).returned
    assert all(torch.equal(left[n], update.returned[n]) for n, _ in update.model.named_buffers())


def test_the_mask_is_what_was_sent(client, seen):
    update = client()
    defence = create("top-k", {"share": "0.2"})
    channel = defence.channel(seen(defence, update))
    for mask in channel.observed.values():
        assert int(mask.sum()) == math.ceil(0.2 * mask.numel())


def test_an_attacker_that_leaves_out_what_was_not_sent_sees_all(client, seen, psnr_of_dlg):
    update = client()
    defence = create("top-k", {"share": "0.1"})
    observation = seen(defence, update)
    assert psnr_of_dlg(observation, defence.channel(observation), update) > 60
    assert psnr_of_dlg(observation, Channel(), update) < 30
