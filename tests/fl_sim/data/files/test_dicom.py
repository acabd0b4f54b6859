import io
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
)

from fl_sim.data import DataError
from fl_sim.data.files.dicom import is_dicom, patient_id
from fl_sim.data.files.images import decode


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


@pytest.mark.parametrize("elements", [{}, {"WindowCenter": 1000, "WindowWidth": 2600}])
def test_values_that_fall_as_stored_values_rise(pixels, elements):
    values = 3000 - 10.0 * (pixels // 16)
    content = dicom(pixels // 16, RescaleSlope=-10, RescaleIntercept=3000, **elements)
    if elements:
        expected = np.clip((values - 999.5) / 2599 + 0.5, 0, 1)
        assert expected.std() > 0
    else:
        expected = (values - values.min()) / (values.max() - values.min())
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-5)


def test_an_exact_window_and_one_of_width_1(pixels):
    exact = dicom(pixels, WindowCenter=2000, WindowWidth=800, VOILUTFunction="LINEAR_EXACT")
    expected = np.clip((pixels.astype(float) - 2000) / 800 + 0.5, 0, 1)
    np.testing.assert_allclose(decode(exact, "x"), expected, atol=1e-5)
    step = dicom(pixels, WindowCenter=2000, WindowWidth=1)
    np.testing.assert_array_equal(decode(step, "x"), pixels > 1999.5)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": "", "WindowWidth": 400},
        {"WindowCenter": 400},
        {"VOILUTSequence": Sequence([])},
        {"ModalityLUTSequence": Sequence([])},
        {"PixelPaddingValue": None},
        {"VOILUTFunction": ""},
        {"NumberOfFrames": ""},
    ],
)
def test_elements_that_are_there_and_empty_count_as_absent(pixels, elements):
    np.testing.assert_array_equal(decode(dicom(pixels, **elements), "x"), decode(dicom(pixels), ""))


def test_padding_is_black_and_no_part_of_the_range(pixels):
    padded = np.pad(pixels, 1, constant_values=65535)
    content = dicom(padded, bits=16, PixelPaddingValue=65535)
    expected = np.pad(decode(dicom(pixels), "x"), 1)
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-6)
    inverse = dicom(
        padded, bits=16, PixelPaddingValue=65535, PhotometricInterpretation="MONOCHROME1"
    )
    expected = np.pad(1 - decode(dicom(pixels), "x"), 1)
    np.testing.assert_allclose(decode(inverse, "x"), expected, atol=1e-6)


def test_padding_beside_a_window_and_a_range_of_padding(pixels):
    window = {"WindowCenter": 2048, "WindowWidth": 4000}
    padded = np.pad(pixels, 1, constant_values=60000)
    padded[0, 0] = 60009
    content = dicom(
        padded, bits=16, PixelPaddingValue=60000, PixelPaddingRangeLimit=60010, **window
    )
    expected = np.pad(decode(dicom(pixels, **window), "x"), 1)
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-6)


def test_padding_of_signed_pixels_that_is_written_unsigned(pixels):
    signed = pixels.astype(np.int16) - 1000
    padded = np.pad(signed, 1, constant_values=-2000)
    element = pydicom.DataElement("PixelPaddingValue", "US", 63536)
    content = pydicom.dcmread(io.BytesIO(dicom(padded, bits=16)))
    content.add(element)
    buffer = io.BytesIO()
    content.save_as(buffer)
    expected = np.pad(decode(dicom(signed, bits=16), "x"), 1)
    np.testing.assert_allclose(decode(buffer.getvalue(), "x"), expected, atol=1e-6)


def palette(entries, bits):
    kind = np.uint16 if bits == 16 else np.uint8
    elements = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in zip(("Red", "Green", "Blue"), entries, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = np.asarray(table, kind).tobytes()
    return elements


@pytest.mark.parametrize(("bits", "scale"), [(8, 1), (16, 257)])
def test_a_palette_is_applied(pixels, bits, scale):
    index = (pixels // 16).astype(np.uint8)
    tables = [np.arange(256)[::-1] * scale, np.arange(256) // 2 * scale, np.full(256, 9 * scale)]
    shown = decode(dicom(index, bits=8, **palette(tables, bits)), "x")
    expected = np.stack([255 - index, index // 2, np.full_like(index, 9)], axis=-1) / 255
    np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_stored_bits_that_lie_higher_among_the_allocated_ones(pixels, kind):
    values = pixels.astype(np.int32) - (2048 if kind is np.int16 else 0)
    higher = (values << 4).astype(kind)
    content = dicom(higher, HighBit=15, WindowCenter=500, WindowWidth=1800)
    expected = np.clip((values - 499.5) / 1799 + 0.5, 0, 1)
    np.testing.assert_allclose(decode(content, "x"), expected, atol=1e-5)


def test_colour_of_fewer_bits_than_are_allocated():
    rgb = np.random.default_rng(0).integers(0, 1024, (4, 6, 3)).astype(np.uint16)
    content = dicom(
        rgb, bits=10, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    np.testing.assert_allclose(decode(content, "x"), rgb / 1023, atol=1e-6)


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


def test_a_picture_that_is_all_padding_is_named(pixels):
    content = dicom(np.full_like(pixels, 9), PixelPaddingValue=9)
    with pytest.raises(DataError, match=r"scan\.dcm: .*all pixels are of the Pixel Padding Value"):
        decode(content, "scan.dcm")


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little", [True, False])
def test_a_file_without_preamble(tmp_path, pixels, implicit, little):
    if implicit and not little:
        return  # DICOM has no such encoding
    file = pydicom.dcmread(io.BytesIO(dicom(pixels, PatientID="P7 ")))
    if not little:
        file["PixelData"].value = pixels.astype(">u2").tobytes()
    alone, buffer = Dataset(dict(file)), io.BytesIO()
    pydicom.dcmwrite(buffer, alone, implicit_vr=implicit, little_endian=little, force_encoding=True)
    content = buffer.getvalue()
    assert content[128:132] != b"DICM"
    assert is_dicom(content)
    np.testing.assert_array_equal(decode(content, "x"), decode(dicom(pixels), "x"))
    (tmp_path / "x").write_bytes(content)
    assert patient_id(tmp_path / "x") == "P7"


def test_a_missing_decoder_names_what_to_install(pixels, monkeypatch):
    file = pydicom.dcmread(io.BytesIO(dicom(pixels)))
    file.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    file.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    buffer = io.BytesIO()
    file.save_as(buffer)
    monkeypatch.setattr("pydicom.pixels.common.CoderBase.is_available", False)
    with pytest.raises(
        DataError,
        match=r"scan\.dcm: its Transfer Syntax UID \(0002,0010\) is JPEG "
        r"Lossless.*pip install 'fl-sim\[dicom\]'",
    ):
        decode(buffer.getvalue(), "scan.dcm")


TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"
GREY = ["CT_small", "MR_small", "MR_small_bigendian", "MR_small_implicit", "MR_small_RLE",
        "liver_1frame", "image_dfl", "examples_overlay", "rtdose_1frame"]  # fmt: skip


@pytest.mark.parametrize("name", GREY)
def test_pydicoms_own_files_as_pydicom_shows_them(name):
    path = TEST_FILES / f"{name}.dcm"
    if not path.exists():
        pytest.skip(f"this pydicom has no {name}.dcm")
    file = pydicom.dcmread(path)
    values = apply_modality_lut(file.pixel_array, file)
    low, high = float(values.min()), float(values.max())
    if file.get("WindowWidth"):
        far = np.array([-1e12, 1e12])
        low, high = apply_windowing(far, file)
        values = apply_windowing(values, file)
    expected = (values - low) / (high - low)
    np.testing.assert_allclose(decode(path.read_bytes(), name), expected, atol=1e-5)


def test_pydicoms_own_files_are_read_or_refused_in_a_line():
    read, refused = 0, []
    for path in sorted(p for p in TEST_FILES.rglob("*") if p.is_file()):
        try:
            shown = decode(path.read_bytes(), path.name)
        except DataError as error:
            refused.append((path.name, str(error)))
        else:
            read += 0 <= shown.min() <= shown.max() <= 1
    assert all(line.startswith(f"{name}: ") and "\n" not in line for name, line in refused)
    assert read > 40
    assert len(refused) > 20
    assert dict(refused).get("badVR.dcm", "reads '1A')").endswith("reads '1A')")


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
        (
            {"WindowCenter": 5, "WindowWidth": 0},
            r"cannot be read as DICOM \(Window Width \(0028,1051\) is 0; allowed are .* at least 1",
        ),
        (
            {"RescaleSlope": "", "RescaleIntercept": 1},
            r"cannot be read as DICOM \(Rescale Slope \(0028,1053\) is empty",
        ),
        (
            {"RescaleSlope": 2},
            r"cannot be read as DICOM \(Rescale Intercept \(0028,1052\) is missing",
        ),
        (
            {"RescaleSlope": 0, "RescaleIntercept": 1},
            r"cannot be read as DICOM \(Rescale Slope \(0028,1053\) is 0, which leaves one value",
        ),
        (
            {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            r"cannot be read as DICOM \(VOI LUT Function \(0028,1056\) is CUBIC; allowed are LIN",
        ),
        (
            {"VOILUTSequence": Sequence([Dataset()])},
            r"cannot be read as DICOM \(LUT Descriptor \(0028,3002\) of its VOI LUT Sequence",
        ),
        (
            {"HighBit": 3},
            r"cannot be read as DICOM \(High Bit \(0028,0102\) is 3 with 12 in Bits Stored",
        ),
        ({"BitsStored": None}, r"cannot be read as DICOM \(Bits Stored \(0028,0101\) is empty"),
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
