from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_sim.data import XrayDataset, hold_out


def part(sizes, seed=0):
    patients = tuple(f"p{i}" for i, size in enumerate(sizes) for _ in range(size))
    draw = torch.Generator().manual_seed(seed)
    return XrayDataset(
        name="x", images=torch.zeros(len(patients), 1, 8, 8, dtype=torch.uint8),
        labels=torch.randint(2, (len(patients),), generator=draw), patients=patients,
        names=tuple(map(str, range(len(patients)))), label_names=("a", "b"), synthetic=True,
        attribution="",
    )  # fmt: skip


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=20),
    fraction=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 3),
)
def test_patients_are_on_one_side_and_none_is_lost(sizes, fraction, seed):
    images = part(sizes)
    kept, out = hold_out(images, fraction, seed=seed, client=1)
    assert sorted([*kept, *out]) == list(range(len(images)))
    assert not {images.patients[i] for i in kept} & {images.patients[i] for i in out}
    assert len(kept) >= 1
    assert len(out) <= round(fraction * len(images))
    again = hold_out(images, fraction, seed=seed, client=1)
    assert all(np.array_equal(a, b) for a, b in zip((kept, out), again, strict=True))


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_the_share_is_the_one_asked_for_where_patients_are_small(fraction):
    images = part([1] * 100)
    draws = [hold_out(images, fraction, seed=1, client=c)[1] for c in range(2)]
    assert [len(out) for out in draws] == [100 * fraction] * 2
    assert set(draws[0]) != set(draws[1])
    share = images.labels[draws[0]].double().mean() - images.labels.double().mean()
    assert abs(float(share)) < 0.03  # classes as they come


def test_a_single_patient_is_trained_on():
    kept, out = hold_out(part([5]), 0.9, seed=1, client=0)
    assert (len(kept), len(out)) == (5, 0)


def test_one_image_is_left_to_train_on_whatever_the_share():
    kept, out = hold_out(part([1] * 5), 0.99, seed=1, client=0)
    assert (len(kept), len(out)) == (1, 4)
