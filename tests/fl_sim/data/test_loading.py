import numpy as np
import pytest
import torch

from fl_sim.data import DATASETS, DataError, load


@pytest.mark.parametrize("name", ["embedded", "phantom"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_size_and_range_asked_for(name, channels):
    num_images = 0 if name == "embedded" else 30
    splits = load(name, image_size=32, channels=channels, num_images=num_images)
    for data in (splits.private, splits.public, splits.test):
        assert data.images.shape == (len(data), channels, 32, 32)
        assert data.images.dtype == torch.uint8
    batch = splits.private.tensor([0, 2])
    assert batch.shape == (2, channels, 32, 32)
    assert batch.dtype == torch.float32
    assert 0 <= batch.min() < batch.max() <= 1
    np.testing.assert_allclose(batch, splits.private.images[[0, 2]] / 255)
    if channels == 3:
        assert batch[:, 0].equal(batch[:, 2])


def test_asking_again_costs_nothing_and_seeds_differ():
    first = load("phantom", num_images=20, image_size=8, seed=5)
    assert load("phantom", num_images=20, image_size=8, seed=5) is first
    other = load("phantom", num_images=20, image_size=8, seed=6)
    assert not other.private.images.equal(first.private.images)


def test_subsets_keep_what_belongs_to_an_image():
    data = load("embedded", image_size=8).private
    part = data.subset(np.array([5, 1]))
    assert part.names == (data.names[5], data.names[1])
    assert part.patients == (data.patients[5], data.patients[1])
    assert part.images.equal(data.images[[5, 1]])
    assert part.labels.equal(data.labels[[5, 1]])
    assert part.tensor(torch.tensor([1])).equal(data.tensor([1]))
    assert len(data.subset([])) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mnist"}, r"data.name = 'mnist': allowed are chestmnist, embedded, folder, hug"),
        ({"image_size": 4}, r"data.image-size = 4: allowed are whole numbers from 8 to 1024"),
        ({"image_size": 2000}, r"data.image-size = 2000"),
        ({"channels": 2}, r"data.channels = 2: allowed are 1 \(grey\) and 3"),
        ({"num_images": -1}, r"data.num-images = -1"),
        ({"num_images": 17}, r"data.num-images = 17: 'embedded' has 16 images; allowed are 0"),
        ({"public": -1}, r"data.public = -1"),
        ({"public": 16}, r"data.public = 16, .* leave no image"),
        (
            {"test_fraction": 1.0},
            r"data.test-fraction = 1.0: allowed are numbers from 0 to below 1",
        ),
        ({"test_fraction": float("nan")}, r"data.test-fraction = nan"),
        ({"name": "folder"}, r"data.path = '': the data set 'folder' needs a path"),
        ({"name": "kermany", "path": "/no/where"}, r"data.path = '/no/where': no such file"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(DataError, match=message) as caught:
        load(**{"name": "embedded", **arguments})
    assert "\n" not in str(caught.value)


def test_the_registry_is_what_the_message_lists():
    with pytest.raises(DataError) as caught:
        load("?")
    assert all(name in str(caught.value) for name in DATASETS)
