import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_sim.data import PARTITIONS, DataError, XrayDataset, load, partition


def dataset(patients, labels):
    n = len(patients)
    return XrayDataset(
        name="test",
        images=torch.zeros(n, 1, 2, 2, dtype=torch.uint8),
        labels=torch.as_tensor(labels),
        patients=tuple(map(str, patients)),
        names=tuple(map(str, range(n))),
        label_names=("a", "b", "c"),
        synthetic=True,
        attribution="",
    )


@st.composite
def datasets(draw):
    patients = draw(st.lists(st.integers(0, 30), min_size=1, max_size=80))
    if draw(st.booleans()):
        labels = [draw(st.integers(0, 2)) for _ in patients]
    else:
        labels = [[float(draw(st.booleans())) for _ in range(3)] for _ in patients]
    return dataset(patients, labels)


@settings(max_examples=80, deadline=None)
@given(
    datasets(),
    st.integers(1, 8),
    st.sampled_from(sorted(PARTITIONS)),
    st.sampled_from([0.3, 1.0, 100.0]),
    st.integers(0, 5),
)
def test_each_image_goes_to_one_client_and_each_patient_too(data, clients, method, alpha, seed):
    def divide():
        return partition(data, clients, method=method, alpha=alpha, seed=seed)

    if len(set(data.patients)) < clients:
        with pytest.raises(DataError, match=r"client \d+ has no data"):
            divide()
        return
    try:
        parts = divide()
    except DataError:
        # Few patients under a strong skew may leave a client empty for good; iid never does.
        assert method != "iid"
        return
    assert len(parts) == clients
    assert min(map(len, parts)) >= 1
    assert sorted(np.concatenate(parts)) == list(range(len(data)))
    owners = [{data.patients[i] for i in part} for part in parts]
    assert sum(map(len, owners)) == len(set(data.patients))
    assert all(np.array_equal(a, b) for a, b in zip(parts, divide(), strict=True))


@settings(max_examples=60, deadline=None)
@given(datasets(), st.integers(1, 6), st.integers(0, 5))
def test_iid_counts_differ_by_no_more_than_the_largest_patient(data, clients, seed):
    if len(set(data.patients)) < clients:
        return
    counts = [len(part) for part in partition(data, clients, seed=seed)]
    largest = max(data.patients.count(p) for p in set(data.patients))
    assert max(counts) - min(counts) <= largest


@pytest.mark.parametrize(("clients", "each"), [(2, 6), (4, 3), (6, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_iid_gives_equal_shares_of_the_embedded_sample(clients, each, seed):
    private = load("embedded").private
    assert [len(part) for part in partition(private, clients, seed=seed)] == [each] * clients


def test_seeds_give_different_partitions():
    data = load("phantom", num_images=100, image_size=8).private
    first, second = (partition(data, 4, seed=seed) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def label_shares(data, parts):
    return np.array([data.labels[part].float().mean() for part in parts])


def test_dirichlet_skews_labels_the_more_the_smaller_alpha():
    data = dataset(range(2000), [i % 2 for i in range(2000)])
    spread = {
        alpha: np.mean(
            [
                label_shares(
                    data, partition(data, 5, method="dirichlet", alpha=alpha, seed=s)
                ).std()
                for s in range(5)
            ]
        )
        for alpha in (0.1, 1.0, 1000.0)
    }
    assert spread[0.1] > spread[1.0] > spread[1000.0]
    assert spread[0.1] > 0.3
    assert spread[1000.0] < 0.05


def test_quantity_skews_amounts_and_not_labels():
    data = dataset(range(4000), [int(i % 4 == 0) for i in range(4000)])
    parts = partition(data, 5, method="quantity", alpha=0.8, seed=3)
    sizes = np.array([len(part) for part in parts])
    assert sizes.max() > 2 * sizes.min()
    large = [part for part in parts if len(part) >= 100]
    np.testing.assert_allclose(label_shares(data, large), 0.25, atol=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_large_patient_goes_where_the_middle_of_its_images_falls(seed):
    """Of two clients one has the large patient; the small ones before and after it are shared."""
    data = dataset([0] * 40 + list(range(1, 61)), [0] * 100)
    counts = [
        sorted(len(part) for part in partition(data, 2, method="quantity", alpha=1e6, seed=s))
        for s in range(10 * seed, 10 * seed + 10)
    ]
    # Halves but for the patient in the middle, of whom at most half is on the wrong side.
    assert max(large for _, large in counts) <= 50 + 20


def test_quantity_follows_the_dirichlet_distribution():
    # Var of a share is (1/K)(1 - 1/K)/(K alpha + 1).
    data = dataset(range(1000), [0] * 1000)
    shares = [
        len(part) / 1000
        for seed in range(200)
        for part in partition(data, 3, method="quantity", alpha=2.0, seed=seed)
    ]
    assert np.var(shares) == pytest.approx((1 / 3) * (2 / 3) / 7, rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "idd"}, r"data.partition = 'idd': allowed are iid, dirichlet, quantity"),
        ({"alpha": 0.0}, r"data.alpha = 0.0: allowed are numbers above 0"),
        ({"alpha": float("nan")}, r"data.alpha = nan"),
        ({"num_clients": 0}, r"clients = 0: allowed are whole numbers from 1"),
        (
            {"num_clients": 12},
            r"client 11 has no data: 12 images of 11 patients cannot give each of 12 clients",
        ),
        (
            {"num_clients": 8, "method": "quantity", "alpha": 1e-4},
            r"client \d has no data: data.partition = 'quantity' with data.alpha = 0.0001",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(DataError, match=message) as caught:
        partition(load("embedded").private, **{"num_clients": 2, **arguments})
    assert "\n" not in str(caught.value)
