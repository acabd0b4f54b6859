"""Inputs that people really have, each read or refused as its README says is right."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest

from fl_sim.data import DataError, load
from fl_sim.data.files.images import decode


@pytest.fixture
def cases():
    folder = Path(os.environ.get("FL_SIM_SHARED", Path(__file__).parents[4] / "shared")) / "cases"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; FL_SIM_SHARED names another folder that holds cases")
    return folder


def read(path, name="folder", **arguments):
    given = {"path": str(path), "image_size": 64, "public": 2, "test_fraction": 0.2, **arguments}
    return load(name, **given)


def test_values_that_fall(cases):
    path = cases / "dicom_folder_negslope/N/00_0.dcm"
    stored = pydicom.dcmread(path).pixel_array
    expected = np.clip((3000 - 10.0 * stored - (1700 - 0.5)) / 2599 + 0.5, 0, 1)
    np.testing.assert_allclose(decode(path.read_bytes(), "x"), expected, atol=1e-5)
    assert read(cases / "dicom_folder_negslope").private.images.float().std() > 20


def test_an_empty_window(cases):
    path = cases / "dicom_folder_emptywin/N/00_0.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    expected = (stored - stored.min()) / (stored.max() - stored.min())
    np.testing.assert_allclose(decode(path.read_bytes(), "x"), expected, atol=1e-5)
    assert read(cases / "dicom_folder_emptywin").private.images.float().std() > 20


def test_a_palette(cases):
    path = cases / "dicom/palette_inverse_grey.dcm"
    index = pydicom.dcmread(path).pixel_array
    shown = decode(path.read_bytes(), "x")
    np.testing.assert_allclose(shown, (255 - index[..., None].repeat(3, -1)) / 255, atol=0.005)


def test_padding(cases):
    path = cases / "dicom/pad65535_nowin.dcm"
    stored = pydicom.dcmread(path).pixel_array.astype(float)
    padding = stored == 65535
    low, high = stored[~padding].min(), stored[~padding].max()
    expected = np.where(padding, 0, (stored - low) / (high - low))
    np.testing.assert_allclose(decode(path.read_bytes(), "x"), expected, atol=1e-5)


def test_an_empty_slope(cases):
    path = cases / "dicom/slope_empty.dcm"
    with pytest.raises(
        DataError, match=r"slope_empty\.dcm: .*Rescale Slope \(0028,1053\) is empty"
    ):
        decode(path.read_bytes(), path.name)


def test_kaggles_folders(cases):
    splits = read(cases / "folder_kaggle_chest_xray", public=5)
    assert splits.private.label_names == ("NORMAL", "PNEUMONIA")
    for data, split in ((splits.private, "train"), (splits.public, "val"), (splits.test, "test")):
        assert len(data) == {"train": 6, "val": 5, "test": 5}[split]
        assert all(name.startswith(f"{split}/") for name in data.names)


def test_folders_of_patients(cases):
    splits = read(cases / "folder_patient_subfolders")
    patients = [set(data.patients) for data in vars(splits).values()]
    assert set.union(*patients) == {f"patient0000{i}" for i in range(8)}
    assert sum(map(len, patients)) == 8


def test_a_label_of_tif(cases):
    splits = read(cases / "folder_tif_class")
    assert splits.private.label_names == ("COVID", "NORMAL", "PNEUMONIA")
    assert sum(map(len, vars(splits).values())) == 24


def test_one_patient_for_all(cases):
    with pytest.raises(DataError, match="all 16 images count as one patient.* data.patients = ima"):
        read(cases / "folder_anonymous_dicom")
    splits = read(cases / "folder_anonymous_dicom", patients="image")
    assert sum(map(len, vars(splits).values())) == 16


def test_a_column_of_patients(cases):
    splits = read(cases / "csv/patcol/xrays.csv")
    assert splits.private.label_names == ("Pneumonia", "No Finding")
    patients = [set(data.patients) for data in vars(splits).values()]
    assert set.union(*patients) == {"0", "1", "2", "3"}
    assert sum(map(len, patients)) == 4


def test_blanks_around_labels(cases):
    splits = read(cases / "csv/labblank/xrays.csv")
    assert splits.private.label_names == ("normal", "pneumonia")
    assert "read 16 images of 'xrays': normal 8, pneumonia 8" in splits.private.notes


def test_a_comma_too_many(cases):
    with pytest.raises(
        DataError, match=r"xrays\.csv: row 2 has 3 cells, more than the 2 of the he"
    ):
        read(cases / "csv/trailcomma/xrays.csv")


@pytest.mark.parametrize("path", ["", "images.zip"])
def test_an_encrypted_archive(cases, path):
    with pytest.raises(DataError, match=r"images\.zip: is encrypted") as caught:
        read(cases / "zip/encrypted" / path, "kermany")
    assert "\n" not in str(caught.value)
