from __future__ import annotations

import numpy as np
import pytest
import torch

from fl_sim.data.patients import Patients, shuffled


@pytest.mark.parametrize("rare", [5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_every_beginning_of_an_order_has_the_classes_as_they_come(rare, seed):
    """To half a patient: neither the first nor the last ones are all of the rare class."""
    classes = np.repeat([0, 1], [100 - rare, rare])
    order = shuffled(classes, np.random.default_rng(seed), balanced=False)
    assert sorted(order) == list(range(100))
    so_far = np.cumsum(classes[order])
    assert np.abs(so_far - rare / 100 * np.arange(1, 101)).max() <= 0.5 + 1e-9


def test_a_balanced_order_begins_with_each_class_equally_often():
    classes = np.repeat([0, 1, 2], [50, 30, 20])
    order = shuffled(classes, np.random.default_rng(0), balanced=True)
    assert np.bincount(classes[order[:60]]).tolist() == [20, 20, 20]


def test_a_patient_has_the_class_of_most_of_its_images():
    found = Patients.of(["b", "a", "b", "b", "a"], torch.tensor([1, 0, 0, 1, 0]))
    assert found.names.tolist() == ["a", "b"]
    assert (found.sizes.tolist(), found.classes.tolist()) == ([2, 3], [0, 1])
    assert found.images_of(np.array([1])).tolist() == [0, 2, 3]
