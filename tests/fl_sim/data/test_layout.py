"""Folders and archives as people have them: what is a label, a split, a patient, an image."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image

from fl_sim.data import DataError, load


def picture(path, value, format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.linspace(0, value, 64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(array).save(path, format=format)


def make(root, names):
    """Write a picture a name, the next brighter than the last, and return the folder."""
    for number, name in enumerate(names):
        picture(root / name, 100 + number)
    return root


def read(path, **arguments):
    given = {"path": str(path), "image_size": 8, "public": 1, "test_fraction": 0, **arguments}
    return load("folder", **given)


def everything(splits):
    """Name, label and patient of every image that is in a split, by part."""
    return {
        part: [
            (name, data.label_names[label], who)
            for name, label, who in zip(
                data.names, data.labels.tolist(), data.patients, strict=True
            )
        ]
        for part, data in vars(splits).items()
    }


SPLITS = [f"{s}/{c}/{s}{i}.jpeg" for s in ("train", "val", "test") for c in "AB" for i in range(2)]


@pytest.mark.parametrize("above", ["", "chest_xray/", "archive/chest_xray/"])
def test_split_folders_above_the_labels(tmp_path, above):
    make(tmp_path, [above + name for name in SPLITS])
    for tool in ("__MACOSX/train/A/._train0.jpeg", "train/.DS_Store", ".ipynb_checkpoints/x.jpeg"):
        (tmp_path / tool).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / tool).write_bytes(b"no image")
    found = everything(read(tmp_path, public=4, test_fraction=0.2))
    for part, split in {"private": "train", "public": "val", "test": "test"}.items():
        assert {name.removeprefix(above) for name, *_ in found[part]} == {
            name for name in SPLITS if name.startswith(split)
        }
        assert {label for _, label, _ in found[part]} == {"A", "B"}


def test_split_folders_below_the_labels_and_in_capitals(tmp_path):
    make(tmp_path, ["A/Train/0.png", "A/TEST/1.png", "B/Train/2.png", "B/TEST/3.png"])
    splits = read(tmp_path, public=0, test_fraction=0.5)
    assert splits.private.label_names == ("A", "B")
    assert splits.private.names == ("A/Train/0.png", "B/Train/2.png")
    assert splits.test.names == ("A/TEST/1.png", "B/TEST/3.png")


def test_a_second_copy_beside_the_splits_is_left_out_and_told(tmp_path):
    make(tmp_path, SPLITS)
    for split in ("train", "val", "test"):
        shutil.copytree(tmp_path / split, tmp_path / "chest_xray" / split)
    splits = read(tmp_path, public=4, test_fraction=0.2)
    assert sum(map(len, vars(splits).values())) == len(SPLITS)
    told = "passed over: 12 images in chest_xray, which are the same again"
    assert told in splits.private.notes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("extra/A/x.png", r"'test' is named as a split, and 'extra' beside it is not"),
        ("train/x.png", r"train/x\.png: has no label; .* by its label, below 'train'"),
        ("train/C", r"the folder 'train/C' is a label, and none of its 0 files is an image"),
        ("val/a/x.png", r"labels 'A' and 'a' differ in capital letters alone"),
    ],
)
def test_what_stands_beside_splits_is_no_label(tmp_path, more, message):
    make(tmp_path, SPLITS)
    if more.endswith("png"):
        picture(tmp_path / more, 9)
    else:
        (tmp_path / more).mkdir()
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["patient{}", "Patient_{}", "subject-{}", "p100{}00{}"])
def test_patients_are_told_by_their_folders(tmp_path, folder):
    names = [f"{'AB'[p % 2]}/{folder.format(p, p)}/study1/v{v}.png" for p in range(6) for v in "12"]
    splits = read(make(tmp_path, names), public=2, test_fraction=0.2)
    parts = [set(data.patients) for data in vars(splits).values()]
    assert set.union(*parts) == {folder.format(p, p) for p in range(6)}
    assert sum(map(len, parts)) == 6
    assert "patients: 6, told by names of folders and files" in splits.private.notes


def test_patients_are_told_by_the_names_of_published_files(tmp_path):
    names = ["A/00000001_000.png", "A/00000001_001.png", "B/00000002_000.png", "B/x.png"]
    found = everything(read(make(tmp_path, names), public=0))["private"]
    assert [who for *_, who in found] == ["00000001", "00000001", "00000002", "B/x.png"]


@pytest.mark.parametrize(
    ("patients", "expected"),
    [
        ("auto", ["patient1", "patient1", "B/k/1_a.png", "B/k/1_b.png"]),
        ("image", ["A/patient1/0.png", "A/patient1/1.png", "B/k/1_a.png", "B/k/1_b.png"]),
        ("folder", ["patient1", "patient1", "k", "k"]),
        ("name", ["0", "1", "1", "1"]),
    ],
)
def test_patients_can_be_told_otherwise(tmp_path, patients, expected):
    make(tmp_path, ["A/patient1/0.png", "A/patient1/1.png", "B/k/1_a.png", "B/k/1_b.png"])
    found = everything(read(tmp_path, public=0, patients=patients))["private"]
    assert [who for *_, who in found] == expected


def test_other_endings_are_read_or_counted(tmp_path):
    make(tmp_path, ["A/0.TIF", "A/1.bmp", "B/2.gif", "B/3.webp", "B/4.JPG"])
    for name in ("A/notes.txt", "B/notes.txt", "B/list.csv", "README"):
        (tmp_path / name).write_text("text")
    splits = read(tmp_path, public=0)
    assert splits.private.names == ("A/0.TIF", "A/1.bmp", "B/2.gif", "B/3.webp", "B/4.JPG")
    assert "passed over: 1 .csv, 2 .txt, 1 without ending" in splits.private.notes
    assert f"read 5 images of '{splits.private.name}': A 2, B 3" in splits.private.notes


@pytest.mark.parametrize("content", [{}, {"c.heic": b"other"}, {"c.svg": b"<svg>", "d": b""}])
def test_a_label_that_would_vanish_is_an_error(tmp_path, content):
    make(tmp_path, ["A/0.png", "B/1.png"])
    (tmp_path / "COVID").mkdir()
    for name, data in content.items():
        (tmp_path / "COVID" / name).write_bytes(data)
    with pytest.raises(
        DataError, match=rf"the folder 'COVID' is a label, and none of its {len(content)} files is"
    ):
        read(tmp_path)


def test_dicom_files_of_any_name_are_read(tmp_path):
    content = Path(pydicom.data.get_testdata_file("CT_small.dcm")).read_bytes()
    for name in ("A/IM0001", "A/1.2.840.113", "B/scan.ima", "B/x.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "A/DICOMDIR").write_bytes(content)
    splits = read(tmp_path, public=0, patients="image")
    assert len(splits.private) == 4


def test_links_are_followed_inside_and_told_outside(tmp_path):
    make(tmp_path / "outside", ["x.png"])
    root = make(tmp_path / "data", ["A/0.png", "B/store/1.png"])
    (root / "A/again.png").symlink_to(root / "A/0.png")
    (root / "B/view").symlink_to("store")
    (root / "B/x.png").symlink_to(tmp_path / "outside/x.png")
    (root / "B/more").symlink_to(tmp_path / "outside")
    (root / "B/round").symlink_to(root)
    (root / "B/gone.png").symlink_to(tmp_path / "nothing")
    splits = read(root, public=0)
    assert splits.private.names == ("A/0.png", "B/store/1.png")
    told = "passed over: 1 broken links, 1 links in a circle, 2 links that lead out of it"
    assert told in splits.private.notes


def test_a_folder_of_links_is_a_label(tmp_path):
    root = make(tmp_path, ["A/0.png", "B/1.png", ".store/2.png"])
    (root / "C").symlink_to(".store")
    assert read(root, public=0).private.label_names == ("A", "B", "C")
    (root / "D").symlink_to("A")
    with pytest.raises(DataError, match=r"'A/0\.png' and 'D/0\.png' are one file, with two labels"):
        read(root)


def test_blanks_around_the_names_of_labels(tmp_path):
    make(tmp_path, ["train/A/0.png", "train/B/1.png", "test/A /2.png", "test/ B/3.png"])
    assert read(tmp_path, public=0).private.label_names == ("A", "B")


def test_the_only_label_is_named_and_not_looked_into(tmp_path):
    make(tmp_path, ["all/A/0.png", "all/B/1.png"])
    with pytest.raises(DataError, match=r"the only label is 'all'; at least 2 are needed"):
        read(tmp_path)


def test_an_anonymous_patient_is_told(tmp_path):
    file = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    file.PatientID = "ANONYMOUS "
    for name in ("A/0.dcm", "A/1.dcm", "B/2.dcm", "B/3.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        file.save_as(tmp_path / name)
    with pytest.raises(
        DataError, match=r"all 4 images count as one patient, 'ANONYMOUS', .* data.patients = image"
    ):
        read(tmp_path)
    assert len(set(read(tmp_path, patients="image", public=0).private.patients)) == 4


def test_unreadable_files_stop_or_are_skipped_and_told(tmp_path):
    make(tmp_path, [f"{label}/{i}.png" for label in "AB" for i in range(5)])
    whole = (tmp_path / "A/0.png").read_bytes()
    (tmp_path / "A/0.png").write_bytes(whole[:60])
    (tmp_path / "B/1.png").write_bytes(b"")
    (tmp_path / "B/broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 9)
    with pytest.raises(DataError, match=r"(A/0\.png|B/1\.png|broken\.dcm): cannot be read"):
        read(tmp_path)
    splits = read(tmp_path, on_error="skip", public=0)
    assert len(splits.private) == 8
    assert any("skipped: " in note and "cannot be read" in note for note in splits.private.notes)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the clients' images can be read; .*cannot be re"):
        read(tmp_path, on_error="skip", public=0, seed=1)


def zipped(path, root, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(root))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_archive_is_as_its_folder(tmp_path, method):
    root = make(tmp_path / "data", SPLITS)
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/._x.jpeg").write_bytes(b"no image")
    path = zipped(tmp_path / "data.zip", root, compression=method)
    one, other = read(root, public=4, test_fraction=0.2), read(path, public=4, test_fraction=0.2)
    assert everything(one) == everything(other)
    assert one.private.images.equal(other.private.images)


def with_flag(content, offset_local, offset_central, value):
    """Change two bytes of every header in an archive."""
    data = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", offset_local), (b"PK\x01\x02", offset_central)):
        start = data.find(mark)
        while start >= 0:
            data[start + offset : start + offset + 2] = value.to_bytes(2, "little")
            start = data.find(mark, start + 4)
    return bytes(data)


@pytest.mark.parametrize(
    ("offsets", "value", "message"),
    [
        ((6, 8), 1, r"is encrypted \('A/0\.png' needs a password\); unpack it"),
        ((8, 10), 9, r"'A/0\.png' is compressed by method 9 \(Deflate64\), which cannot be unp"),
        ((8, 10), 97, r"'A/0\.png' is compressed by method 97, which cannot be unpacked"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_one_line(tmp_path, offsets, value, message):
    path = zipped(tmp_path / "x.zip", make(tmp_path / "data", ["A/0.png", "B/1.png"]))
    path.write_bytes(with_flag(path.read_bytes(), *offsets, value))
    with pytest.raises(DataError, match=rf"x\.zip: {message}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_damage_and_bombs_in_an_archive_are_one_line(tmp_path):
    path = zipped(tmp_path / "x.zip", make(tmp_path / "data", ["A/0.png", "B/1.png"]))
    whole = path.read_bytes()
    place = whole.find(b"IDAT")
    path.write_bytes(whole[: place + 8] + b"\0\0\0\0" + whole[place + 12 :])
    with pytest.raises(DataError, match=r"x\.zip: A/0\.png: cannot be unpacked \(Bad CRC-32"):
        read(path, public=0)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("B/1.png", b"x")
        with archive.open(zipfile.ZipInfo("A/0.png"), "w", force_zip64=True) as file:
            file.write(b"\0")
        archive.getinfo("A/0.png").file_size = 2**33
    with pytest.raises(DataError, match=r"x\.zip: A/0\.png: 8589934592 bytes; allowed are up to"):
        read(path, public=0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../A/0.png", whole)
        archive.writestr("/B/0.png", whole)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"x\.zip': no images"):
        read(path)
