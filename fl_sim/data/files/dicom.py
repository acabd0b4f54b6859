"""DICOM radiographs as a reader would see them on a screen."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from fl_sim.data.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

HEAD = 132
"""Bytes of a file that tell whether it is DICOM."""

# Value representations of PS3.5, as they stand in the first element of an explicit encoding.
_REPRESENTATIONS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT OB OW PN SH SL SS UI UL".split())
_NEEDED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_NOT_A_NUMBER = re.compile(r"(?:invalid literal for int\(\)|could not convert string).*: (.+)$")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def is_dicom(content: bytes) -> bool:
    """Tell whether the bytes are those of a DICOM file, with a preamble or without one.

    A file is known by its mark (PS3.10, section 7.1), and one without preamble by a first element
    of group 0002 or 0008 (PS3.5, section 7.1).
    """
    if content[128:132] == b"DICM":
        return True
    if len(content) < 8 or content[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    order = "big" if content[:2] == b"\x00\x08" else "little"
    explicit = content[4:6] in _REPRESENTATIONS
    length = int.from_bytes(content[4:8], order)  # type: ignore[arg-type]
    return explicit or (content[3 if order == "little" else 2] == 0 and length <= 256)


def decode(content: bytes, where: str) -> np.ndarray:
    """Return the displayed pixels of a single-frame DICOM file.

    Grey values are those of :func:`fl_sim.data.files.grey.displayed`; a palette is applied, and
    other colours are brought to RGB.

    Parameters
    ----------
    content : bytes
        The file.
    where : str
        The file's name for error messages.

    Returns
    -------
    ndarray
        (H, W), or (H, W, 3) for colour, float32 in [0, 1].

    Raises
    ------
    DataError
        If the file is too large, damaged, compressed in a way that nothing installed can
        decode, or holds no or several frames.
    """
    import pydicom  # slow to import, and most data sets have no DICOM

    try:
        file = pydicom.dcmread(io.BytesIO(content), force=True)
        _require(file)
        _check_frames(file, where)
        _require_decoder(file, where)
        return _displayed(file)
    except DataError:
        raise
    # A damaged header can make pydicom raise anything at all.
    except Exception as error:
        raise DataError(f"{where}: cannot be read as DICOM ({_reason(error)})") from None


def patient_id(path: Path) -> str:
    """Return the patient a DICOM file names, or ``""`` if it names none or is no DICOM file.

    Raises
    ------
    DataError
        If it is one, and damaged.
    """
    with path.open("rb") as file:
        return patient_in(file, str(path))


def patient_in(file: BinaryIO, where: str) -> str:
    """Return the patient in an open file, as :func:`patient_id`."""
    head = file.read(HEAD)
    if not is_dicom(head):
        return ""
    import pydicom

    file.seek(0)
    try:
        header = pydicom.dcmread(
            file, force=True, stop_before_pixels=True, specific_tags=["PatientID"]
        )
        return str(header.get("PatientID") or "").strip().strip("\0").strip()
    except Exception as error:
        raise DataError(f"{where}: cannot be read as DICOM ({_reason(error)})") from None


def tag(keyword: str) -> str:
    """Return a tag as messages show it: ``Rescale Slope (0028,1053)``."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    number = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(number)} ({number >> 16:04X},{number & 0xFFFF:04X})"


def _reason(error: Exception) -> str:
    """Return what went wrong in a line; of several decoders that failed, what all of them say."""
    first, *more = [" ".join(line.split()) for line in str(error).strip().splitlines()] or [""]
    if more and first.startswith("Unable to decode"):
        return f"its pixels cannot be decoded; convert them to uncompressed ones; {more[0]}"
    if found := _NOT_A_NUMBER.search(first):
        return f"a number in its header reads {found[1]}"
    return first or type(error).__name__


def _require(file: Dataset) -> None:
    """Raise for the elements that a picture cannot do without."""
    if not any(keyword in file for keyword in _PIXELS):
        kind = file.get("SOPClassUID")
        what = f"; it is of the class {kind.name}" if kind is not None else ""
        raise ValueError(f"it holds no {tag('PixelData')}{what}")
    needed = _NEEDED if "PixelData" in file else _NEEDED[:5]
    for keyword in needed:
        if file.get(keyword) in (None, ""):
            state = "empty" if keyword in file else "missing"
            raise ValueError(f"{tag(keyword)} is {state}")


def _check_frames(file: Dataset, where: str) -> None:
    pixels, frames = int(file.Rows) * int(file.Columns), int(file.get("NumberOfFrames") or 1)
    if Image.MAX_IMAGE_PIXELS and pixels > Image.MAX_IMAGE_PIXELS:
        raise DataError(f"{where}: too large; allowed are up to {Image.MAX_IMAGE_PIXELS} pixels")
    if frames != 1:
        raise DataError(f"{where}: holds {frames} frames; allowed is one image a file")


def _require_decoder(file: Dataset, where: str) -> None:
    """Make sure that the pixels can be decoded, and say what to install if not."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = file.file_meta
    if not meta.get("TransferSyntaxUID"):  # as in a file without preamble
        implicit, little = file.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    syntax = meta.TransferSyntaxUID
    where = f"{where}: its {tag('TransferSyntaxUID')} is {syntax.name}"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"{where}, which cannot be decoded; convert it, e.g. to Explicit VR Little Endian"
        ) from None
    if not decoder.is_available:
        raise DataError(f"{where}: needs a decoder; pip install 'fl-sim[dicom]'")


def _stored(file: Dataset) -> np.ndarray:
    """Return the stored values of the pixels, wherever among the allocated bits they lie."""
    if "PixelData" not in file:
        return file.pixel_array  # floating point
    bits, highest = int(file.BitsStored), file.get("HighBit")
    below = 0 if highest in (None, "") else int(highest) + 1 - bits
    if not below:
        return file.pixel_array
    allowed = range(int(file.BitsAllocated) - bits + 1)
    if below not in allowed or file.file_meta.TransferSyntaxUID.is_compressed:
        raise ValueError(f"{tag('HighBit')} is {highest} with {bits} in {tag('BitsStored')}")
    file.BitsStored = int(highest) + 1
    stored = file.pixel_array >> below
    file.BitsStored = bits
    return stored


def _displayed(file: Dataset) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    from fl_sim.data.files import grey

    stored = _stored(file)
    if file.PhotometricInterpretation == "PALETTE COLOR":
        coloured = apply_color_lut(stored, file)
        return (coloured[..., :3] / np.iinfo(coloured.dtype).max).astype(np.float32)
    if stored.ndim == 3:
        return (stored / (2.0 ** int(file.BitsStored) - 1)).astype(np.float32)
    return grey.displayed(stored, file)
