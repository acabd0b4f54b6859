"""The paper's image sets are read as they are published, and what is wrong with them is a line."""

from __future__ import annotations

import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as torchvision
from torchvision.transforms import functional as transforms

from benchmarks.encgradinversion.datasets import CIFAR10, DATASETS
from benchmarks.encgradinversion.errors import PaperError
from benchmarks.encgradinversion.selection import Selection


def draw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class Python2(pickle._Pickler):
    """Writes byte strings as Python 2 did, which the makers of CIFAR used."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, value):
        length = len(value)
        short = pickle.SHORT_BINSTRING + bytes([length]) if length < 256 else b""
        self.write((short or pickle.BINSTRING + length.to_bytes(4, "little")) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def batch(rows, labels=b"fine_labels"):
    """Return a batch as the makers pickled it."""
    content = {b"data": rows, labels: list(range(len(rows))), b"filenames": [b"a.png"] * len(rows)}
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue()


def cifar100(path, rows):
    folder = path / "cifar-100-python"
    folder.mkdir(parents=True)
    (folder / "train").write_bytes(batch(rows))
    (folder / "test").write_bytes(batch(rows[:1]))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["x"]}, protocol=2))
    return folder


def photograph(path, height, width, seed=0):
    """Write a smooth picture, of which JPEG keeps what resizing does."""
    small = Image.fromarray(draw(6, 6, 3, seed=seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)


def people(folder, counts, *, written=None):
    for number, (person, count) in enumerate((written or counts).items()):
        for image in range(1, count + 1):
            photograph(folder / person / f"{person}_{image:04d}.jpg", 250, 250, 10 * number + image)
    return folder


def test_cifar_is_what_torchvision_reads_from_folder_archive_and_batch(tmp_path, monkeypatch):
    rows = draw(7, 3072)
    folder = cifar100(tmp_path, rows)
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-100-python")
    monkeypatch.setattr(torchvision.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.CIFAR100, "_load_meta", lambda self: None)
    expected = torch.from_numpy(torchvision.CIFAR100(str(tmp_path)).data).permute(0, 3, 1, 2) / 255
    for path in (tmp_path, folder, folder / "train", tmp_path / "cifar-100-python.tar.gz"):
        found = DATASETS["cifar100"].images(path)
        assert (found.name, len(found)) == ("CIFAR-100", 7)
        assert torch.equal(found.take([3, 0], 32), expected[[3, 0]])


def test_cifar_10_stands_in_under_its_own_name(tmp_path):
    folder = tmp_path / CIFAR10.folder
    folder.mkdir()
    for number, name in enumerate(CIFAR10.files):
        (folder / name).write_bytes(batch(draw(2, 3072, seed=number), b"labels"))
    found = DATASETS["cifar100"].images(tmp_path)
    assert (found.name, len(found)) == ("CIFAR-10", 10)
    of_third = draw(2, 3072, seed=2)[1].reshape(3, 32, 32)
    assert torch.equal(found.take([5], 32)[0] * 255, torch.from_numpy(of_third).float())
    (folder / "data_batch_4").unlink()
    with pytest.raises(PaperError, match="cifar-10-batches-py/data_batch_4 is missing; download"):
        DATASETS["cifar100"].images(tmp_path)


def test_half_downloaded_archives_and_batches_are_a_line(tmp_path):
    folder = cifar100(tmp_path, draw(20, 3072))
    archive = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, "cifar-100-python")
    archive.write_bytes(archive.read_bytes()[:20_000])
    whole = (folder / "train").read_bytes()
    for cut in (b"", whole[:100], whole[: len(whole) // 2], b"no pickle at all"):
        (folder / "train").write_bytes(cut)
        with pytest.raises(PaperError, match=r"train: is no whole batch of CIFAR .*download it ag"):
            DATASETS["cifar100"].images(folder)
    with pytest.raises(PaperError, match="the archive is not whole; download it again"):
        DATASETS["cifar100"].images(archive)


def test_a_batch_that_would_run_a_program_is_refused(tmp_path):
    class Program:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "train").write_bytes(pickle.dumps({b"data": Program()}, protocol=2))
    with pytest.raises(PaperError, match="mkdir is no array"):
        DATASETS["cifar100"].images(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_people_txt_gives_lfw_the_order_of_torchvision(tmp_path, monkeypatch):
    counts = {"Zoe_Z": 2, "Ann_A": 1, "Bob_B": 3}
    root = tmp_path / "lfw-py"
    people(root / "lfw_funneled", counts)
    text = "2\n1\nZoe_Z\t2\n2\nBob_B\t3\nAnn_A\t1\n"
    (root / "people.txt").write_text(text)
    (root / "lfw-names.txt").write_text("".join(f"{n}\t{c}\n" for n, c in counts.items()))
    monkeypatch.setattr(torchvision.LFWPeople, "_check_integrity", lambda self: True)
    theirs = torchvision.LFWPeople(str(tmp_path))
    ours = DATASETS["lfw"].images(root)
    assert len(ours) == len(theirs) == 6
    assert ours.missing == 0
    for index in range(6):
        expected = transforms.center_crop(transforms.resize(theirs[index][0], 128), [128, 128])
        difference = ours.take([index], 128)[0] - transforms.to_tensor(expected)
        assert float(difference.abs().max()) < 0.02  # two roundings
    (root / "lfw_funneled" / "Bob_B" / "Bob_B_0002.jpg").unlink()
    with pytest.raises(PaperError, match=r"1 of the 6 images of people.txt .* Bob_B/Bob_B_0002"):
        DATASETS["lfw"].images(root)
    (root / "people.txt").write_text(text[:20])
    with pytest.raises(PaperError, match="ends early"):
        DATASETS["lfw"].images(root)


def test_the_deep_funneled_folder_is_read_by_name_and_knows_that_it_is_not_whole(tmp_path):
    folder = people(tmp_path / "lfw-deepfunneled" / "lfw-deepfunneled", {"B": 1, "A": 2})
    for path in (tmp_path, folder.parent, folder):
        found = DATASETS["lfw"].images(path)
        assert found.names == ("A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg")
        assert found.missing == 13_230
    index = tmp_path / "index.txt"
    index.write_text("0 1\n")
    with pytest.raises(PaperError, match="13230 are missing"):
        Selection.of(found, 1, index)
    whole = folder / "A" / "A_0002.jpg"
    whole.write_bytes(whole.read_bytes()[:500])
    with pytest.raises(PaperError, match=r"A_0002\.jpg: .*download it again"):
        found.take([0, 1], 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PaperError, match="no folders of people"):
        DATASETS["lfw"].images(tmp_path / "empty")


def test_a_folder_of_images_of_any_size_is_cut_to_squares(tmp_path):
    photograph(tmp_path / "n01" / "b.JPEG", 120, 300, 1)
    photograph(tmp_path / "n02" / "a.png", 90, 64, 2)
    (tmp_path / "n02" / "notes.txt").write_text("no image")
    found = DATASETS["imagenet"].images(tmp_path)
    assert found.names == ("n01/b.JPEG", "n02/a.png")
    assert found.take([0, 1], 64).shape == (2, 3, 64, 64)
    theirs = Image.open(tmp_path / "n01" / "b.JPEG").convert("RGB")
    expected = transforms.center_crop(transforms.resize(theirs, 64), [64, 64])
    difference = found.take([0], 64)[0] - transforms.to_tensor(expected)
    assert float(difference.abs().mean()) < 0.01
    with pytest.raises(PaperError, match=r"--size 65: n02/a.png of .* has 64 pixels a side"):
        found.take([0, 1], 65)


@pytest.mark.parametrize("name", DATASETS)
def test_paths_that_hold_nothing_are_a_line(name, tmp_path):
    with pytest.raises(PaperError, match="no such file or folder"):
        DATASETS[name].images(tmp_path / "absent")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    np.savez(tmp_path / "other.npz", labels=draw(3))
    np.savez(tmp_path / "floats.npz", images=np.zeros((2, 8, 8)))
    for file, told in (("broken", "cannot be read"), ("other", "no array of"), ("floats", "uint8")):
        with pytest.raises(PaperError, match=told) as error:
            DATASETS[name].images(tmp_path / f"{file}.npz")
        assert "\n" not in str(error.value)


def test_npz_files_of_grey_and_coloured_images_stand_in(tmp_path):
    np.savez(tmp_path / "grey.npz", train_images=draw(3, 28, 28))
    np.savez(tmp_path / "colour.npz", images=draw(3, 40, 40, 3))
    assert DATASETS["lfw"].images(tmp_path / "grey.npz").take([2], 28).shape == (1, 1, 28, 28)
    found = DATASETS["imagenet"].images(tmp_path / "colour.npz")
    assert (found.name, found.take([1], 32).shape) == ("colour", (1, 3, 32, 32))


def test_batches_are_drawn_by_the_seed_without_repeats(tmp_path):
    np.savez(tmp_path / "set.npz", images=draw(50, 8, 8))
    images = DATASETS["cifar100"].images(tmp_path / "set.npz")
    first = Selection.of(images, 7, None)
    drawn = first.indices(50, 0)
    assert sorted(drawn) == list(range(50))
    assert first.indices(8, 0) == drawn[:8] == Selection.of(images, 7, None).indices(8, 0)
    assert first.indices(50, 1) != drawn != Selection.of(images, 8, None).indices(50, 0)
    with pytest.raises(PaperError, match="--batch 51: set has 50 images; at most that"):
        first.indices(51, 0)


def test_an_index_file_of_the_authors_format_says_which_images(tmp_path):
    np.savez(tmp_path / "set.npz", images=draw(500, 8, 8))
    images = DATASETS["cifar100"].images(tmp_path / "set.npz")
    table = np.random.default_rng(1).integers(0, 500, (10, 128))  # 128 a line, as theirs
    np.savetxt(tmp_path / "list.txt", table, fmt="%d")
    selection = Selection.of(images, 0, tmp_path / "list.txt")
    assert selection.indices(5, 3) == table[3, :5].tolist()
    for batch_size, number, told in ((129, 0, "128 images a line"), (4, 10, "has 10 lines")):
        with pytest.raises(PaperError, match=told):
            selection.indices(batch_size, number)
    for text, told in (("0 500\n", "500 is no image of set; must be 0 to 499"),
                       ("0 -1\n", "-1 is no image"), ("1 2\n3\n", "must be lines of as many"),
                       ("1.5\n", "must be lines of"), ("", "holds no")):  # fmt: skip
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(PaperError, match=told):
            Selection.of(images, 0, tmp_path / "list.txt")
    with pytest.raises(PaperError, match="must be lines of as many whole numbers"):
        Selection.of(images, 0, tmp_path / "absent.txt")


def test_a_download_that_fails_is_a_line(monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no\nroute to host")

    monkeypatch.setattr(torchvision, "CIFAR100", fail)
    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fail)
    for name, title in (("cifar100", "CIFAR-100"), ("lfw", "LFWPeople")):
        with pytest.raises(PaperError, match=rf"{title} could not .* \(no route to host\); --data"):
            DATASETS[name].images(None)
    with pytest.raises(PaperError, match="needs --data, a folder of images"):
        DATASETS["imagenet"].images(None)
