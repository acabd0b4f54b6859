import numpy as np
import pytest

from fl_sim.data import DataError, load

FINDINGS = ("Mass", "Edema", "Hernia")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (20, 16, 16), dtype=np.uint8),
        "labels": rng.integers(0, 2, (20, 3), dtype=np.uint8),
        "label_names": np.array(FINDINGS),
        "patient_id": np.arange(20) // 3,
        "split": np.array(["train", "test"] * 10),  # shares patients: not to be used
        "filenames": np.array([f"{i // 3:08d}_{i % 3:03d}.png" for i in range(20)]),
    }


def read(folder, arrays, **arguments):
    np.savez(folder / "x.npz", **arrays)
    return load("nih", **{"path": str(folder / "x.npz"), "image_size": 16, **arguments})


def test_images_keep_their_labels_and_patients(tmp_path, arrays):
    splits = read(tmp_path, arrays)
    assert splits.private.label_names == FINDINGS
    where = {name: i for i, name in enumerate(arrays["filenames"])}
    for part in (splits.private, splits.public, splits.test):
        for i, name in enumerate(part.names):
            truth = where[name]
            assert np.array_equal(part.images[i, 0].numpy(), arrays["images"][truth])
            assert part.labels[i].tolist() == arrays["labels"][truth].tolist()
            assert part.patients[i] == str(arrays["patient_id"][truth])


@pytest.mark.parametrize("seed", range(4))
def test_no_patient_is_in_two_splits(tmp_path, arrays, seed):
    splits = read(tmp_path, arrays, seed=seed)
    parts = [set(p.patients) for p in (splits.private, splits.public, splits.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 7


def test_file_names_may_be_missing(tmp_path, arrays):
    del arrays["filenames"]
    names = [n for p in vars(read(tmp_path, arrays)).values() for n in p.names]
    assert sorted(names) == [f"{i:06d}" for i in range(20)]


def test_real_file(shared):
    path = shared / "data/cxr/nih_chestxray14_1000_64.npz"
    splits = load("nih", path=str(path), image_size=64, public=20, test_fraction=0.2)
    assert sum(len(p) for p in vars(splits).values()) == 1000
    assert splits.private.labels.shape[1] == 14
    assert splits.private.label_names[0] == "Atelectasis"
    assert splits.private.labels.sum(1).eq(0).any()  # no finding at all
    assert not set(splits.private.patients) & set(splits.test.patients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_id": None}, r"patient_id is not a file in the archive; needed are images, labe"),
        ({"images": np.zeros((20, 16, 16, 3), np.uint8)}, r"images are \(20, 16, 16, 3\) uint8"),
        ({"images": np.zeros((20, 16, 16))}, r"float64; allowed are \(N, H, W\) uint8"),
        ({"labels": np.zeros((20, 2))}, r"labels \(20, 2\), 3 label_names .* do not fit"),
        ({"patient_id": np.zeros(3)}, r"patient_id \(3,\) do not fit together"),
        ({"labels": np.full((20, 3), -1)}, r"labels hold -1; allowed are 0 and 1"),
        ({"filenames": np.array(["a"])}, r"filenames are \(1,\); there are 20 images"),
        ({"labels": np.array([{}] * 20)}, r"cannot be read as an npz file"),
    ],
)
def test_bad_files_are_named(tmp_path, arrays, change, message):
    changed = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    with pytest.raises(DataError, match=rf"x\.npz: .*{message}") as caught:
        read(tmp_path, changed)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data.path = '/nowhere.npz': no such file"):
        load("nih", path="/nowhere.npz")
