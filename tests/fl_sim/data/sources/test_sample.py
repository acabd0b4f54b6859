from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fl_sim.data import DataError, load, partition
from fl_sim.data.patients import Patients
from fl_sim.data.sources import embed_sample


def test_it_is_balanced_and_one_image_a_patient():
    splits = load("sample")
    parts = [splits.private, splits.public, splits.test]
    assert [len(part) for part in parts] == [400, 120, 200]
    for part in parts:
        assert part.labels.float().mean() == 0.5
    everyone = [patient for part in parts for patient in part.patients]
    assert len(set(everyone)) == 720
    assert splits.private.images.shape == (400, 1, 64, 64)
    assert splits.private.images.float().std() > 40
    assert "CC BY 4.0" in splits.private.attribution


def test_fewer_public_images_are_taken_from_the_public_ones():
    whole, few = load("sample", seed=1), load("sample", public=16, seed=1)
    assert set(few.public.patients) < set(whole.public.patients)
    assert few.public.labels.float().mean() == 0.5


def test_it_is_not_blown_up():
    with pytest.raises(DataError, match=r"data.image-size = 128: .* up to 64 .*'embedded'"):
        load("sample", image_size=128)


def test_it_can_be_written_again(shared, tmp_path):
    source = shared / "data" / "cxr" / "kermany_224"
    if not source.exists():
        pytest.skip("shared/data/cxr/kermany_224 is not there")
    embed_sample.embed(source, tmp_path)
    for part in embed_sample.PARTS:
        again, now = (
            json.loads((folder / f"sample-{part}.json").read_text())
            for folder in (tmp_path, embed_sample.TARGET)
        )
        for mine, theirs in zip(again["images"], now["images"], strict=True):
            assert {k: v for k, v in mine.items() if k != "jpeg"} == {
                k: v for k, v in theirs.items() if k != "jpeg"
            }


SIZES = (1, 16, 100, 283)


@pytest.mark.parametrize("seed", [1, 2])
def test_clients_have_the_sizes_that_were_asked_for(seed):
    private = load("sample").private
    parts = partition(private, 4, sizes=SIZES, seed=seed)
    assert [len(part) for part in parts] == list(SIZES)
    assert len(set(np.concatenate(parts).tolist())) == sum(SIZES)
    for part in parts[1:]:
        sick = float(private.labels[torch.as_tensor(part)].float().mean())
        assert sick == pytest.approx(0.5, abs=0.1)


def test_patients_stay_whole():
    private = load("sample").private
    twins = private.subset(np.repeat(np.arange(20), 2))
    parts = partition(twins, 2, sizes=[4, 10])
    patients = [Patients.of([twins.patients[i] for i in p], twins.labels[p]) for p in parts]
    assert [p.sizes.tolist() for p in patients] == [[2] * 2, [2] * 5]
    with pytest.raises(DataError, match=r"whole patients .* do not make up 3; the nearest is 2"):
        partition(twins, 2, sizes=[3, 10])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([1, 2], r"data.sizes = '1, 2': one size for each of the 4 clients"),
        ([0, 1, 1, 1], r"allowed are sizes from 1, 400 images"),
        ([1, 1, 1, 398], r"allowed are sizes from 1, 400 images"),
    ],
)
def test_sizes_that_cannot_be_had_are_named(sizes, message):
    with pytest.raises(DataError, match=message):
        partition(load("sample").private, 4, sizes=sizes)
