import numpy as np
import pytest

from fl_sim.data import DataError, load


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        f"{split}_{kind}": (
            rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
            if kind == "images"
            else (np.arange(n)[:, None] % 2).astype(np.uint8)
        )
        for split, n in (("train", 12), ("val", 6), ("test", 5))
        for kind in ("images", "labels")
    }


def test_the_files_own_splits_are_kept(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    splits = load("pneumoniamnist", path=str(tmp_path / "x.npz"), image_size=28)
    assert splits.private.images[:, 0].numpy().tolist() == arrays["train_images"].tolist()
    assert splits.test.images[:, 0].numpy().tolist() == arrays["test_images"].tolist()
    assert splits.private.labels.tolist() == arrays["train_labels"].ravel().tolist()
    assert len(splits.public) == len(arrays["val_images"])
    assert all(name.startswith("val-") for name in splits.public.names)
    assert len(set(splits.private.patients)) == 12


def test_real_file(shared):
    path = shared / "data/cxr/pneumoniamnist_28.npz"
    splits = load("pneumoniamnist", path=str(path), image_size=28)
    assert (len(splits.private), len(splits.public), len(splits.test)) == (4708, 524, 624)
    assert splits.public.labels.tolist().count(1) == 389


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_labels": None}, r"has no val_images or no val_labels"),
        ({"test_images": np.zeros((5, 28, 28, 3), np.uint8)}, r"test_images are \(5, 28, 28, 3\)"),
        ({"test_images": np.zeros((5, 28, 28))}, r"float64 .* allowed are \(N, H, W\) uint8"),
        ({"test_images": np.zeros((5, 64, 64), np.uint8)}, r"test images differ in size"),
        ({"train_labels": np.full((12, 1), 7)}, r"train_labels hold 7; allowed are 0 and 1"),
        ({"train_labels": np.zeros((3, 1))}, r"12, 28, 28\) uint8 with 3 labels"),
        ({"train_images": np.array([{}] * 12)}, r"cannot be read as an npz file"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, change, message):
    path = tmp_path / "x.npz"
    kept = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(path, **kept)
    with pytest.raises(DataError, match=rf"x\.npz: .*{message}"):
        load("pneumoniamnist", path=str(path))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_what_is_no_npz_is_named(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: cannot be read as an npz file"):
        load("pneumoniamnist", path=str(path))


@pytest.mark.parametrize(("image_size", "file"), [(28, "mnist.npz"), (64, "mnist_64.npz")])
def test_a_failed_download_is_one_line(tmp_path, monkeypatch, image_size, file):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", no_network)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=rf"{file} could not be downloaded") as caught:
        load("pneumoniamnist", image_size=image_size)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / ".medmnist").iterdir())


def test_a_download_is_kept(tmp_path, monkeypatch, arrays):
    calls = []

    def download(url, root, filename, md5):
        calls.append(filename)
        np.savez(f"{root}/{filename}", **arrays)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    monkeypatch.setenv("HOME", str(tmp_path))
    for seed in (100, 101):  # another seed, so that the result is not a remembered one
        assert len(load("pneumoniamnist", image_size=8, seed=seed).private) == 12
    assert calls == ["pneumoniamnist.npz"]


@pytest.mark.parametrize("side", [28, 64, 128, 224])
@pytest.mark.parametrize("name", ["pneumoniamnist", "chestmnist"])
def test_given_files_of_every_size(tmp_path, arrays, name, side):
    rng = np.random.default_rng(1)
    for split, n in (("train", 4), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
        shape = (n, 14) if name == "chestmnist" else (n, 1)
        arrays[f"{split}_labels"] = rng.integers(0, 2, shape, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", **arrays)
    splits = load(name, path=str(tmp_path / "x.npz"), image_size=side, public=2)
    assert splits.private.images[:, 0].numpy().tolist() == arrays["train_images"].tolist()
    labels = arrays["train_labels"]
    expected = labels if name == "chestmnist" else labels.ravel()
    assert splits.private.labels.tolist() == expected.tolist()
    assert "patients: not known, each image counts as one" in splits.private.notes


def test_chestmnist_has_fourteen_labels_an_image(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=r"with 12 labels; allowed are .* with N x 14 labels"):
        load("chestmnist", path=str(tmp_path / "x.npz"))


def test_the_labels_are_those_of_medmnist():
    import medmnist

    from fl_sim.data.sources import chestmnist, pneumoniamnist

    for kind in (chestmnist.KIND, pneumoniamnist.KIND):
        theirs = medmnist.INFO[kind.name]["label"]
        assert kind.label_names == tuple(theirs[str(i)] for i in range(len(theirs)))
        assert hasattr(medmnist, kind.title)
