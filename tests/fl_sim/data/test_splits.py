import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_sim.data import DataError
from fl_sim.data.sources.base import DatasetRequest, DatasetSource
from fl_sim.data.splits import split


def source(patients, labels, parts=()):
    n = len(patients)
    return DatasetSource(
        name="mine",
        labels=torch.tensor(labels),
        patients=tuple(patients),
        names=tuple(map(str, range(n))),
        label_names=("a", "b"),
        parts=tuple(parts),
        read=lambda indices: torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8),
        attribution="",
    )


def request(**changes):
    defaults = DatasetRequest("folder", "", 8, 1, num_images=0, public=4, test_fraction=0.2, seed=0)
    return dataclasses.replace(defaults, **changes)


def single(n, parts=()):
    return source([str(i) for i in range(n)], [i % 2 for i in range(n)], parts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1)), min_size=1, max_size=60),
    st.integers(0, 8),
    st.floats(0, 0.9),
    st.integers(0, 60),
    st.integers(0, 3),
)
def test_splits_share_no_image_and_no_patient(rows, public, fraction, num_images, seed):
    data = source([f"p{p}" for p, _ in rows], [label for _, label in rows])
    asked = request(public=public, test_fraction=fraction, num_images=num_images, seed=seed)
    try:
        parts = split(data, asked)
    except DataError:
        # Only where whole patients, of the images that are asked for, may leave no one private.
        largest = max(data.patients.count(name) for name in data.patients)
        count = num_images or len(data)
        assert count > len(data) or public + fraction * count + 2 * largest + 1 >= count
        return
    images = [set(p.tolist()) for p in parts.values()]
    owners = [{data.patients[i] for i in p} for p in images]
    for group in (images, owners):
        assert len(set().union(*group)) == sum(map(len, group))
    if not num_images:
        assert set().union(*images) == set(range(len(data)))
    assert len(parts["private"]) >= 1
    again = split(data, asked)
    assert all((again[name] == parts[name]).all() for name in parts)


def test_sizes_are_as_asked_where_each_image_is_a_patient():
    parts = split(single(100), request(public=6, test_fraction=0.25))
    assert {name: len(p) for name, p in parts.items()} == {"private": 69, "public": 6, "test": 25}
    parts = split(single(100), request(public=6, test_fraction=0.25, num_images=40))
    assert {name: len(p) for name, p in parts.items()} == {"private": 24, "public": 6, "test": 10}


@pytest.mark.parametrize(("images", "wanted"), [(32, 6), (33, 7), (34, 7)])
def test_the_share_of_test_images_is_rounded_to_the_nearest(images, wanted):
    assert len(split(single(images), request(test_fraction=0.2))["test"]) == wanted


def test_where_a_source_holds_out_no_test_images_none_are():
    data = dataclasses.replace(single(20), holds_out_test=False)
    parts = split(data, request(public=4, test_fraction=0.5))
    assert {name: len(p) for name, p in parts.items()} == {"private": 16, "public": 4, "test": 0}


def test_public_is_balanced_and_test_has_the_mix_of_the_data():
    data = source([str(i) for i in range(100)], [int(i < 90) for i in range(100)])
    parts = split(data, request())
    assert data.labels[parts["public"]].sum() == 2
    assert data.labels[parts["test"]].sum() in (18, 19)


@pytest.mark.parametrize("seed", range(5))
def test_public_is_balanced_within_the_own_public_split(seed):
    labels = [int(i < 90) for i in range(100)] + [int(i < 5) for i in range(20)]
    data = source([str(i) for i in range(120)], labels, ["private"] * 100 + ["public"] * 20)
    public = split(data, request(seed=seed))["public"]
    assert public.min() >= 100
    assert data.labels[public].sum() == 2


def test_seeds_draw_different_patients():
    first, second = (split(single(100), request(seed=seed)) for seed in (0, 1))
    assert set(first["test"]) != set(second["test"])


def test_own_splits_are_kept():
    parts = ["private"] * 10 + ["public"] * 6 + ["test"] * 4
    own = split(single(20, parts), request())
    assert own["private"].tolist() == list(range(10))
    assert set(own["public"]) < set(range(10, 16))
    assert len(own["public"]) == 4
    assert own["test"].tolist() == [16, 17, 18, 19]
    assert not len(split(single(20, parts), request(test_fraction=0.0))["test"])
    assert len(split(single(20, parts), request(num_images=10))["test"]) == 2


def test_public_beyond_the_own_public_split_comes_from_the_private_one():
    own = split(single(20, ["private"] * 18 + ["public"] * 2), request(public=6))
    assert {18, 19} < set(own["public"].tolist())
    assert len(own["public"]) == 6


def test_a_large_patient_is_taken_whole_where_none_is_small_enough():
    data = source([f"p{i // 5}" for i in range(30)], [0] * 30)
    assert len(split(data, request(public=2))["public"]) == 5


@pytest.mark.parametrize("seed", range(5))
def test_of_large_patients_the_smallest_is_taken(seed):
    data = source(list("aaaaaabbbbccccccc"), [0] * 17)
    assert split(data, request(public=2, seed=seed))["public"].tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        (single(9), {"num_images": 10}, r"data.num-images = 10: 'mine' has 9 images; allowed"),
        (single(4), {}, r"data.public = 4, data.test-fraction = 0.2: they leave no image of the 4"),
        (single(9), {"num_images": 3}, r"they leave no image of the 3"),
        (
            source(["p", "p", "q"], [0, 1, 0], ["private", "test", "private"]),
            {"public": 0},
            r"mine: patient 'p' has images in 'private' and in 'test'",
        ),
    ],
)
def test_bad_input_is_named(data, changes, message):
    with pytest.raises(DataError, match=message):
        split(data, request(**changes))
