import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_sim.data import load
from fl_sim.data.sources import embed
from fl_sim.data.sources.embedded import PUBLIC


def test_twelve_are_private_and_four_public_whatever_the_seed():
    for seed in (0, 1):
        splits = load("embedded", image_size=16, seed=seed)
        assert (len(splits.private), len(splits.public), len(splits.test)) == (12, 4, 0)
        assert set(splits.public.names) == PUBLIC
        assert splits.public.labels.tolist() == [0, 0, 1, 1]
        assert splits.private.labels.bincount().tolist() == [6, 6]
        assert "CC BY 4.0" in splits.private.attribution
        assert not splits.private.synthetic
        assert splits.private.label_names == ("normal", "pneumonia")


def test_two_images_of_one_child_are_one_patient():
    private = load("embedded", image_size=16).private
    twice = [n for n, p in zip(private.names, private.patients, strict=True) if p == "person1946"]
    assert twice == ["person1946_bacteria_4874.jpeg", "person1946_bacteria_4875.jpeg"]
    assert len(set(private.patients)) == 11


def test_the_file_is_small_enough_for_flowers_bundle():
    assert embed.TARGET.stat().st_size < 2e6


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1946_bacteria_4874.jpeg", "person1946"),
        ("NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1427"),
    ],
)
def test_patients_are_read_from_names(name, patient):
    assert embed.patient_of(name) == patient


def test_embedding_is_lossless_and_repeatable(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256), dtype=np.uint8)
    names = ["NORMAL2-IM-1440-0001.jpeg", "person1_virus_2.jpeg"]
    np.savez(tmp_path / "x.npz", images=images, labels=[[0], [1]], filenames=names)
    for target in ("a.json", "b.json"):
        embed.embed(tmp_path / "x.npz", tmp_path / target)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert [i["name"] for i in json.loads((tmp_path / "a.json").read_text())["images"]] == names


def test_the_shipped_pictures_are_the_originals(shared: Path):
    with np.load(shared / "data/cxr/kermany_val16_256.npz") as arrays:
        originals = dict(zip(arrays["filenames"].tolist(), arrays["images"], strict=True))
    splits = load("embedded", image_size=256)
    for data in (splits.private, splits.public):
        for name, image in zip(data.names, data.images, strict=True):
            assert image[0].equal(torch.from_numpy(originals.pop(name)))
    assert not originals
