"""Random tables and folders: read or refused in a line, and no patient in two splits.

A few by default; ``FL_SIM_FUZZ=2000`` tries as many tables and half as many folders.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fl_sim.data import DataError, load
from fl_sim.data.loading import _load

EXAMPLES = int(os.environ.get("FL_SIM_FUZZ", "60"))
TABLES = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
FOLDERS = settings(TABLES, max_examples=EXAMPLES // 2)

pytestmark = pytest.mark.filterwarnings("ignore")


def png(value):
    return Image.fromarray(np.linspace(0, value, 64, dtype=np.uint8).reshape(8, 8))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of ten pictures, some in folders, to which tables are written."""
    root = tmp_path_factory.mktemp("images")
    for number in range(10):
        folder = root / ("" if number < 6 else f"patient0000{number // 2}")
        folder.mkdir(exist_ok=True)
        png(100 + number).save(folder / f"{number}.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


counter = itertools.count()


def outcome(path, **arguments):
    """Return the splits of a data set, or None where it is refused in one line."""
    given = {"path": str(path), "image_size": 8, "public": 1, "test_fraction": 0.2, **arguments}
    try:
        return load("folder", **given)
    except DataError as error:
        message = str(error)
    finally:
        _load.cache_clear()
    assert message
    assert "\n" not in message
    return None


def check(splits, *, truth=None):
    """Assert that no patient is in two splits, by their names or by the ``truth`` of an image."""
    parts = [
        {truth[name] if truth else who for name, who in zip(d.names, d.patients, strict=True)}
        for d in vars(splits).values()
    ]
    assert sum(map(len, parts)) == len(set.union(*parts))
    names = [name for data in vars(splits).values() for name in data.names]
    assert len(names) == len(set(names))


PATHS = [f"{i}.png" for i in range(6)] + [f"patient0000{i // 2}/{i}.png" for i in range(6, 10)]
HEADS = ["path", "Path", "Image Index", "label", "Finding Labels", "Patient ID", "subject_id",
         "split", "Mass", "Edema", "No Finding", "age", "", "Unnamed: 0", "label ", "dicom_id",
         "study_id"]  # fmt: skip
CELLS = [*PATHS, "./0.png", "x//../1.png", "nothing.png", "../0.png", "/etc/passwd", "broken.png",
         "0", "1", "1.0", "-1", "", " ", "nan", "a", "a ", "b", "A", "train", "val", "test", "p1",
         "Mass|Edema", '"', "\0", "é", "'", "\ud7ff", "=1+1", "1e9", "None"]  # fmt: skip


@TABLES
@given(
    head=st.lists(st.sampled_from(HEADS), min_size=1, max_size=6),
    rows=st.lists(st.lists(st.sampled_from(CELLS), max_size=7), max_size=8),
    separator=st.sampled_from([",", ";", "\t", "|", ", "]),
    newline=st.sampled_from(["\n", "\r\n", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
    on_error=st.sampled_from(["stop", "skip"]),
    uncertain=st.sampled_from(["refuse", "zeros"]),
)
def test_any_table(images, head, rows, separator, newline, encoding, on_error, uncertain):
    text = newline.join(separator.join(row) for row in [head, *rows])
    path = images / f"{next(counter)}.csv"
    path.write_bytes(text.encode(encoding))
    splits = outcome(path, on_error=on_error, uncertain=uncertain)
    path.unlink()
    if splits is not None:
        check(splits)


@TABLES
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_table(images, content):
    path = images / f"{next(counter)}.csv"
    path.write_bytes(content)
    outcome(path)
    path.unlink()


def written(number):
    """Ways in which one patient's number is written."""
    return st.sampled_from([f"{number}", f" {number}", f"{number} ", f"{number}.0"])


@st.composite
def tables(draw):
    """A table that is right, in one of many ways of writing it, its patients, its labels."""
    patients = draw(st.lists(st.integers(0, 5), min_size=6, max_size=6))
    marks = st.sampled_from(["", " ", "./"])
    head = [
        draw(st.sampled_from(["path", "Path", "image", "filename", "Image Index"])),
        draw(st.sampled_from(["label", "Label", "class", "diagnosis"])),
        draw(st.sampled_from(["patient_id", "Patient ID", "PatientID", "subject_id", "patientid"])),
    ]
    lines = [
        [draw(marks) + f"{i}.png", draw(st.sampled_from(["a", "b", "a ", " b"])), draw(written(p))]
        for i, p in enumerate(patients)
    ]
    order = draw(st.permutations(range(3)))
    separator = draw(st.sampled_from([",", ";", "\t"]))
    text = "\n".join(separator.join(row[i] for i in order) for row in [head, *lines])
    labels = {line[1].strip() for line in lines}
    return text, {f"{i}.png": p for i, p in enumerate(patients)}, labels


@TABLES
@given(table=tables(), seed=st.integers(0, 9))
def test_patients_stay_together_however_they_are_written(images, table, seed):
    text, truth, labels = table
    path = images / f"{next(counter)}.csv"
    path.write_text(text)
    splits = outcome(path, seed=seed)
    path.unlink()
    if splits is not None:
        check(splits, truth=truth)
    else:
        assert len(set(truth.values())) < 3 or len(labels) < 2


FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion",
    "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
NAMES = ["0.png", "0.jpg", "1.png", "2.png", "2.jpg", "3.png", "./1.png", "nothing.png",
         "../0.png", " 3.png", "", "train/p1/0.png"]  # fmt: skip


@st.composite
def label_lines(draw):
    """A line of a file of labels, of whatever kind."""
    value = st.sampled_from([1.0, 0.0, -1.0, None, 1, "x", [1]])
    found = {
        "path_to_image": draw(st.sampled_from(NAMES)),
        **dict.fromkeys(FINDINGS, draw(value)),
        "Edema": draw(value),
    }
    for name in draw(st.lists(st.sampled_from(list(found)), max_size=1)):
        del found[name]
    return draw(st.sampled_from([json.dumps(found)] * 8 + ["", "{", "[1]", "é"]))


@TABLES
@given(
    head=st.sampled_from(
        [("Image Index", "Finding Labels", "Patient ID"),
         ("path_to_image", "frontal_lateral", "deid_patient_id"),
         ("path_to_image", "split", "deid_patient_id")]
    ),
    rows=st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.sampled_from(["Mass", "train", "valid", ""]),
            st.sampled_from(["1", "2", "3.0", ""]),
        ),
        min_size=1, max_size=8,
    ),
    lists=st.dictionaries(
        st.sampled_from(["train_val_list.txt", "test_list.txt"]),
        st.lists(st.sampled_from(NAMES), max_size=6).map("\n".join),
    ),
    labels=st.dictionaries(
        st.sampled_from(
            ["impression_fixed.json", "report_fixed.json", "below/report_fixed.json"]
        ),
        st.lists(label_lines(), max_size=8).map("\n".join),
    ),
    on_error=st.sampled_from(["stop", "skip"]),
)  # fmt: skip
def test_any_files_beside_a_published_table(samples, head, rows, lists, labels, on_error):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for place in ("", "below", "PNG/train/p1"):
            (root / place).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (root / f"{number}.png").write_bytes(samples["png"])
        (root / "PNG/train/p1/0.png").write_bytes(samples["png"])
        for name, text in (lists | labels).items():
            (root / name).write_text(text)
        (root / "table.csv").write_text("\n".join(map(",".join, [head, *rows])))
        splits = outcome(root / "table.csv", on_error=on_error, uncertain="zeros")
    if splits is not None:
        check(splits)


PARTS = ["train", "test", "val", "Train", "A", "B", "a", "B ", "patient1", "patient2", "p10",
         ".hidden", "__MACOSX", "@eaDir", "Ünïcode", "deep"]  # fmt: skip
KINDS = ["png", "png", "png", "png", "jpg", "tif", "txt", "broken", "dicom", "bare", "link", "away"]


@pytest.fixture(scope="module")
def samples():
    dicom = Path(pydicom.data.get_testdata_file("MR_small.dcm")).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("png", "jpg", "tif"):
            png(200).save(Path(folder) / f"x.{suffix}")
        made = {p.suffix[1:]: p.read_bytes() for p in Path(folder).iterdir()}
    return {**made, "txt": b"text", "broken": b"\x89PNG", "dicom": dicom, "bare": dicom}


def grow(root, leaves, samples):
    """Write files, each at the end of its folders; return how many of them are pictures."""
    for number, (folders, kind) in enumerate(leaves):
        place = root.joinpath(*folders)
        place.mkdir(parents=True, exist_ok=True)
        suffix = {"bare": "", "dicom": ".dcm", "broken": ".png", "link": ".png", "away": ".png"}
        file = place / f"{number}{suffix.get(kind, f'.{kind}')}"
        if kind in {"link", "away"}:
            first = next(iter(sorted(root.rglob("*.png"))), root)
            file.symlink_to(first if kind == "link" else "/etc/hostname")
        else:
            file.write_bytes(samples[kind])


@FOLDERS
@given(
    leaves=st.lists(
        st.tuples(st.lists(st.sampled_from(PARTS), max_size=4), st.sampled_from(KINDS)),
        min_size=1,
        max_size=14,
    ),
    on_error=st.sampled_from(["stop", "skip"]),
    patients=st.sampled_from(["auto", "image", "folder", "name"]),
)
def test_any_folder(samples, leaves, on_error, patients):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        grow(root, leaves, samples)
        splits = outcome(root, on_error=on_error, patients=patients)
    if splits is not None:
        check(splits)


@FOLDERS
@given(
    leaves=st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]), st.sampled_from(["", "study1", "v"]), st.integers(1, 5)
        ),
        min_size=6,
        max_size=14,
    ),
    split=st.sampled_from(["", "train"]),
    seed=st.integers(0, 9),
)
def test_folders_of_patients_stay_together(samples, leaves, split, seed):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        truth = {}
        for number, (label, below, patient) in enumerate(leaves):
            parts = [split, label, f"patient{patient:05}", below, f"{number}.png"]
            name = "/".join(filter(None, parts))
            truth[name] = patient
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(samples["png"])
        splits = outcome(root, seed=seed)
    if splits is not None:
        check(splits, truth=truth)
    else:
        assert len(set(truth.values())) < 3 or len({label for label, *_ in leaves}) < 2
