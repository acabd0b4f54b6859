import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from fl_sim.data import DataError, load

HEADER = "path,split,label,subtype,patient_id,duplicate_of,source\n"


def jpeg(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, dtype=np.uint8)).save(buffer, format="JPEG")
    return buffer.getvalue()


def rows():
    """20 train images of 10 patients, 4 of val, 6 of test, one duplicate."""
    lines = [(f"train/p{i}.jpeg", "train", i % 4 // 2, f"t{i // 2}", "") for i in range(20)]
    lines += [(f"val/p{i}.jpeg", "val", i % 2, f"v{i}", "") for i in range(4)]
    lines += [(f"test/p{i}.jpeg", "test", i % 2, f"e{i}", "") for i in range(6)]
    return [*lines, ("train/again.jpeg", "train", 0, "t0", "train/p0.jpeg")]


def write(folder, lines, unpacked=False):
    text = "".join(f"{p},{s},{label},x,{who},{dup},here\n" for p, s, label, who, dup in lines)
    (folder / "index.csv").write_text(HEADER + text)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for i, line in enumerate(lines):
            archive.writestr(line[0], jpeg(8 * i))
        if unpacked:
            archive.extractall(folder)
    if unpacked:
        (folder / "images.zip").unlink()


@pytest.mark.parametrize("form", ["folder", "zip", "unpacked"])
def test_each_form_gives_the_same(tmp_path, form):
    write(tmp_path, rows(), unpacked=form == "unpacked")
    path = tmp_path / "images.zip" if form == "zip" else tmp_path
    splits = load("kermany", path=str(path), image_size=16)
    assert splits.private.names == tuple(f"train/p{i}.jpeg" for i in range(20))
    assert splits.public.names == tuple(f"val/p{i}.jpeg" for i in range(4))
    assert splits.test.names == tuple(f"test/p{i}.jpeg" for i in range(6))
    for i in (0, 7, 19):
        assert (splits.private.images[i].int() - 8 * i).abs().max() <= 2


def test_more_public_images_come_from_other_patients_of_train(tmp_path):
    write(tmp_path, rows())
    splits = load("kermany", path=str(tmp_path), image_size=16, public=8)
    assert len(splits.public) == 8
    assert not set(splits.public.patients) & set(splits.private.patients)
    assert len(splits.private) == 16


def test_real_archive(shared):
    path = str(shared / "data/cxr/kermany_224")
    splits = load("kermany", path=path, image_size=32, num_images=60)
    assert (len(splits.private), len(splits.public), len(splits.test)) == (44, 4, 12)
    assert splits.public.labels.sum() == 2
    assert 0.2 < splits.private.tensor(range(44)).mean() < 0.8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("train/x.jpeg", "dev", 0, "p", ""), r"index\.csv: split 'dev' in row 33; allowed are"),
        (("train/x.jpeg", "train", 2, "p", ""), r"index\.csv: label '2' in row 33; allowed"),
        (("val/x.jpeg", "val", 0, "t1", ""), r"patient 't1' has images in 'private' and in 'publ"),
    ],
)
def test_bad_rows_are_named(tmp_path, line, message):
    write(tmp_path, [*rows(), line])
    with pytest.raises(DataError, match=message):
        load("kermany", path=str(tmp_path))


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no index\.csv in"):
        load("kermany", path=str(tmp_path))


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "index.csv").write_text("path,split\nx,train\n")
    with pytest.raises(DataError, match=r"has no column 'label', 'patient_id', 'duplicate_of'"):
        load("kermany", path=str(tmp_path))


def test_missing_and_damaged_images_are_named(tmp_path):
    write(tmp_path, rows())
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("train/p0.jpeg", b"broken")
    with pytest.raises(DataError, match=r"train/p0\.jpeg: cannot be read"):
        load("kermany", path=str(tmp_path))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("train/p0.jpeg", jpeg(0))
    with pytest.raises(DataError, match=r"has no image 'train/p1\.jpeg', which index\.csv lists"):
        load("kermany", path=str(tmp_path))
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"images\.zip: cannot be read as a zip file"):
        load("kermany", path=str(tmp_path))
    (tmp_path / "images.zip").unlink()
    with pytest.raises(DataError, match=r"path 'train/p0\.jpeg': no such file"):
        load("kermany", path=str(tmp_path))


PUBLISHED = [
    ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
    ("train/NORMAL/NORMAL2-IM-0383-0001.jpeg", "NORMAL2-IM-0383"),
    ("train/PNEUMONIA/person1_bacteria_1.jpeg", "person1"),
    ("train/PNEUMONIA/person1_bacteria_2.jpeg", "person1"),
    ("train/PNEUMONIA/person447_virus_921_1.jpeg", "person447"),
    ("val/NORMAL/NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1427"),
    ("val/PNEUMONIA/person1946_bacteria_4874.jpeg", "person1946"),
    ("test/NORMAL/IM-0115-0001.jpeg", "test-IM-0115"),
    ("test/PNEUMONIA/person1_virus_6.jpeg", "test-person1"),
]
LEFT = ["__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg", "chest_xray/train/.DS_Store"]


def published(path, form):
    """Write the set as Kaggle or Mendeley packs it."""
    above = {"mendeley": "chest_xray", "kaggle": "chest_xray", "third": "CellData/chest_xray"}[form]
    with zipfile.ZipFile(path, "w") as archive:
        for name in LEFT:
            archive.writestr(name, b"no image")
        for number, (name, _) in enumerate(PUBLISHED):
            if form == "kaggle":
                archive.writestr(f"{above}/chest_xray/{name}", jpeg(8 * number))
            if form == "kaggle" or not name.startswith("val"):
                archive.writestr(f"{above}/{name}", jpeg(8 * number))
        archive.writestr(f"{above}/train/PNEUMONIA/person1_bacteria_3.jpeg", jpeg(8 * 2))
        if form == "third":
            archive.writestr("CellData/OCT/train/CNV/CNV-1-1.jpeg", jpeg(1))
    return path


def test_the_directory_of_an_archive_is_read_once(tmp_path, monkeypatch):
    path = published(tmp_path / "archive.zip", "mendeley")
    read, times = zipfile.ZipFile._RealGetContents, []

    def counted(archive):
        times.append(archive)
        return read(archive)

    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", counted)
    load("kermany", path=str(path), image_size=17, public=2)
    assert len(times) == 1


@pytest.mark.parametrize("form", ["mendeley", "kaggle", "third"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_the_set_as_it_is_published(tmp_path, form, unpacked):
    path = published(tmp_path / "archive.zip", form)
    if unpacked:
        path = tmp_path / "folder"
        with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
            archive.extractall(path)
    splits = load("kermany", path=str(path), image_size=16, public=2)
    found = {
        name[name.rindex(part + "/") :]: (who, label)
        for part, data in (("train", splits.private), ("test", splits.test), ("val", splits.public))
        for name, who, label in zip(data.names, data.patients, data.labels.tolist(), strict=True)
        if f"{part}/" in name
    }
    expected = {
        name: (who, int("PNEUMONIA" in name))
        for name, who in PUBLISHED
        if form == "kaggle" or not name.startswith("val")
    }
    # Without images of a split of their own, public ones are patients of train.
    taken = {} if form == "kaggle" else set(splits.public.names)
    assert len(taken) == (0 if form == "kaggle" else 2)
    assert found.items() <= expected.items()
    assert len(found) + len(taken) == len(expected)
    notes = " ".join(splits.private.notes)
    assert "1 images that are copies of another" in notes
    assert ("1 images of OCT" in notes) == (form == "third")


def test_other_folders_than_the_published_ones_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("train/NORMAL/0.jpeg", "train/COVID/1.jpeg"):
            archive.writestr(name, jpeg(9))
    with pytest.raises(
        DataError, match=r"no folders train and test with NORMAL and PNEUMONIA, but"
    ):
        load("kermany", path=str(tmp_path / "x.zip"))


def test_an_encrypted_archive_is_one_line(tmp_path):
    write(tmp_path, rows())
    data = bytearray((tmp_path / "images.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + offset] |= 1
            start = data.find(mark, start + 4)
    (tmp_path / "images.zip").write_bytes(data)
    with pytest.raises(
        DataError, match=r"images\.zip: is encrypted \(.* needs a password\)"
    ) as caught:
        load("kermany", path=str(tmp_path))
    assert "\n" not in str(caught.value)
