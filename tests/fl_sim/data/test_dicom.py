import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from fl_sim.data import DataError
from fl_sim.data.dicom import is_dicom, patient_id
from fl_sim.data.images import decode


def dicom(pixels, bits=12, **elements):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    file.Rows, file.Columns = pixels.shape[-2:] if pixels.ndim == 2 else pixels.shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = pixels.dtype.itemsize * 8
    file.BitsStored, file.HighBit = bits, bits - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)


def test_without_a_window_the_values_are_stretched(pixels):
    low, high = int(pixels.min()), int(pixels.max())
    np.testing.assert_allclose(
        decode(dicom(pixels), "x"), (pixels - float(low)) / (high - low), atol=1e-6
    )


@pytest.mark.parametrize(("center", "width"), [(2048, 1000), (1000, 4096), (3000, 9000)])
@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (2.0, -1000.0)])
def test_window_and_rescale_follow_the_standard(pixels, center, width, slope, intercept):
    elements = {"WindowCenter": center, "WindowWidth": width}
    values = pixels.astype(float)
    if slope is not None:
        elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
        values = slope * values + intercept
    # PS3.3 C.11.2.1.2.1
    expected = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(decode(dicom(pixels, **elements), "x"), expected, atol=1e-5)


def test_sigmoid_window(pixels):
    content = dicom(pixels, WindowCenter=2000, WindowWidth=800, VOILUTFunction="SIGMOID")
    expected = 1 / (1 + np.exp(-4 * (pixels.astype(float) - 2000) / 800))
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-5)


def test_signed_values(pixels):
    signed = pixels.astype(np.int16) - 2048
    expected = np.clip((signed - (100 - 0.5)) / 999 + 0.5, 0, 1)
    content = dicom(signed, WindowCenter=100, WindowWidth=1000)
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-5)


def test_the_first_of_several_windows_is_taken(pixels):
    one = decode(dicom(pixels, WindowCenter=2000, WindowWidth=500), "x")
    two = decode(dicom(pixels, WindowCenter=[2000, 9], WindowWidth=[500, 9]), "x")
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("slope", [None, 0.7])
def test_lookup_table(pixels, slope):
    table = (255 - np.arange(4096) // 16).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = (table * 257).tolist()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    rescale = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": 0.0}
    content = dicom(pixels, VOILUTSequence=Sequence([item]), RescaleType="US", **rescale)
    nearest = np.rint((slope or 1.0) * pixels).astype(int)
    np.testing.assert_allclose(decode(content, "x"), table[nearest] / 255, atol=1e-6)


def test_monochrome1_is_inverted(pixels):
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    white = decode(dicom(pixels, PhotometricInterpretation="MONOCHROME1", **window), "x")
    np.testing.assert_allclose(white, 1 - decode(dicom(pixels, **window), "x"), atol=1e-6)


def test_colour():
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    content = dicom(
        rgb, bits=8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    np.testing.assert_allclose(decode(content, "x"), rgb / 255, atol=1e-6)


def test_colour_of_fewer_bits_than_it_is_stored_in():
    rgb = np.random.default_rng(0).integers(0, 4096, (4, 6, 3)).astype(np.uint16)
    content = dicom(
        rgb, bits=12, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    np.testing.assert_allclose(decode(content, "x"), rgb / 4095, atol=1e-6)


def test_one_flat_value_is_black(pixels):
    assert not decode(dicom(np.full_like(pixels, 7)), "x").any()


def test_patient_id(tmp_path, pixels):
    for content, expected in [
        (dicom(pixels, PatientID="P7"), "P7"),
        (dicom(pixels), ""),
        (b"no DICOM", ""),
    ]:
        path = tmp_path / "x"
        path.write_bytes(content)
        assert patient_id(path) == expected
        assert is_dicom(content) == content.startswith(b"\0")


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"NumberOfFrames": 12}, "holds 12 frames; allowed is one"),
        ({"Rows": 60_000, "Columns": 60_000}, "too large; allowed are up to 89478485 pixels"),
        ({"Rows": 7}, "cannot be read as DICOM"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "cannot be read as DICOM"),
    ],
)
def test_bad_files_are_named(pixels, elements, message):
    with pytest.raises(DataError, match=rf"scan\.dcm: {message}") as caught:
        decode(dicom(pixels, **elements), "scan.dcm")
    assert "\n" not in str(caught.value)


def test_a_file_without_pixels_and_a_cut_off_file_are_named(pixels):
    content = dicom(pixels)
    file = pydicom.dcmread(io.BytesIO(content))
    del file.PixelData
    buffer = io.BytesIO()
    file.save_as(buffer)
    for broken in (buffer.getvalue(), content[:200], content[:-20]):
        with pytest.raises(DataError, match=r"scan\.dcm: cannot be read as DICOM"):
            decode(broken, "scan.dcm")
