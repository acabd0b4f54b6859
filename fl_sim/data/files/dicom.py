"""DICOM radiographs as a reader would see them on a screen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fl_sim.data.errors import DataError


def is_dicom(content: bytes) -> bool:
    """Tell whether the bytes are those of a DICOM file (PS3.10, section 7.1)."""
    return content[128:132] == b"DICM"


def decode(content: bytes, where: str) -> np.ndarray:
    """Return the displayed pixels of a single-frame DICOM file.

    The modality transform (rescale slope and intercept) and the VOI transform (lookup table or
    first window) are applied as in DICOM PS3.3 C.11; a file without a VOI transform is
    stretched from its darkest to its brightest pixel. MONOCHROME1, where 0 is white, is inverted.

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
        file = pydicom.dcmread(io.BytesIO(content))
        pixels, frames = int(file.Rows) * int(file.Columns), int(file.get("NumberOfFrames") or 1)
        if Image.MAX_IMAGE_PIXELS and pixels > Image.MAX_IMAGE_PIXELS:
            raise DataError(
                f"{where}: too large; allowed are up to {Image.MAX_IMAGE_PIXELS} pixels"
            )
        if frames != 1:
            raise DataError(f"{where}: holds {frames} frames; allowed is one image a file")
        return _displayed(file)
    except DataError:
        raise
    # A damaged header can make pydicom raise anything at all.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{where}: cannot be read as DICOM ({reason})") from None


def patient_id(path: Path) -> str:
    """Return the patient a DICOM file names, or ``""`` if it names none or is no DICOM file."""
    with path.open("rb") as file:
        if not is_dicom(file.read(132)):
            return ""
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read as DICOM ({reason})") from None
    return str(header.get("PatientID") or "")


def _displayed(file: object) -> np.ndarray:
    from pydicom import Dataset
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    assert isinstance(file, Dataset)
    stored = file.pixel_array
    if stored.ndim == 3:
        return (stored / (2.0 ** int(file.BitsStored) - 1)).astype(np.float32)
    values = apply_modality_lut(stored, file)
    if "VOILUTSequence" in file:
        item = file.VOILUTSequence[0]
        low, high = 0.0, 2.0 ** int(item.LUTDescriptor[2]) - 1
        # A lookup table is indexed by whole numbers, which rescaling has made floats.
        values = apply_voi_lut(np.rint(values).astype(np.int64), file)
    elif "WindowCenter" in file and "WindowWidth" in file:
        # The window's own black and white: what it makes of values far beyond its two ends.
        far = 1e3 * (abs(float(values.max())) + abs(float(values.min())) + 2.0**16)
        with np.errstate(over="ignore"):  # a sigmoid window's exp, on its way to 1 / inf
            low, high = apply_voi_lut(np.array([-far, far]), file)
        values = apply_voi_lut(values, file)
    else:
        low, high = float(values.min()), float(values.max())
    grey = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    if file.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return grey.astype(np.float32)
