"""Image sets as the Hugging Face library saves them."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from fl_sim.data import DataError, load

SPLITS = {"train": 8, "validation": 4, "test": 4}


def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.linspace(0, value, 64, dtype=np.uint8).reshape(8, 8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def datasets():
    pytest.importorskip("flwr_datasets", reason="the extra huggingface is not installed")
    return pytest.importorskip("datasets", reason="the extra huggingface is not installed")


def save(datasets, folder, sizes=SPLITS, label=None, **columns):
    """Save splits of those sizes, each image with its own brightness."""
    kind = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=["no", "yes"])}
    saved = datasets.DatasetDict()
    start = 0
    for split, size in sizes.items():
        rows = {
            "image": [png(100 + start + i) for i in range(size)],
            "label": [i % 2 for i in range(size)] if label is None else ["a", "b"] * (size // 2),
            **{name: [who(start + i) for i in range(size)] for name, who in columns.items()},
        }
        more = {name: datasets.Value("string") for name in columns}
        saved[split] = datasets.Dataset.from_dict(rows, datasets.Features({**kind, **more}))
        start += size
    saved.save_to_disk(folder)
    return folder


def read(folder, **arguments):
    given = {"path": str(folder), "image_size": 8, "public": 4, "test_fraction": 0.2, **arguments}
    return load("huggingface", **given)


def test_splits_labels_and_patients_are_kept(datasets, tmp_path):
    save(datasets, tmp_path / "set", **{"Patient ID": lambda i: f"p{i // 2}"})
    splits = read(tmp_path / "set")
    assert splits.private.label_names == ("no", "yes")
    assert splits.private.names == tuple(f"train-{i:06d}" for i in range(8))
    assert splits.public.patients == ("p4", "p4", "p5", "p5")
    assert splits.test.patients == ("p6", "p6", "p7", "p7")
    assert splits.private.images.amax((1, 2, 3)).tolist() == list(range(100, 108))
    assert splits.private.labels.tolist() == [0, 1] * 4
    assert "patients: 8, told by column 'Patient ID'" in splits.private.notes


def test_text_as_labels_and_columns_that_are_told(datasets, tmp_path):
    save(
        datasets, tmp_path / "set", {"all": 8}, datasets.Value("string"), who=lambda i: f"{i // 4}"
    )
    splits = read(tmp_path / "set", columns="patient = who", public=0, test_fraction=0)
    assert splits.private.label_names == ("a", "b")
    assert splits.private.patients == ("0",) * 4 + ("1",) * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"columns": "path = picture"},
            r"columns of images among image, label; data\.columns = 'p",
        ),
        ({"path": ""}, r"data\.path = '': names a set of the hub"),
        ({"labels": "grade"}, r"data\.labels = 'grade': .* has no column 'grade'"),
    ],
)
def test_what_cannot_be_used_is_one_line(datasets, tmp_path, arguments, message):
    save(datasets, tmp_path / "set")
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "set", **arguments)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_one_line(datasets, tmp_path):
    with pytest.raises(DataError, match=r"data\.path = '.*': cannot be loaded \(") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(
        DataError, match=r"needs flwr-datasets; pip install 'fl-sim\[huggingface\]'"
    ):
        read(tmp_path)
