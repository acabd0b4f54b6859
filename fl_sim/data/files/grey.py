"""From the stored values of a grey DICOM image to what a screen shows (PS3.3, C.7.6.3 and C.11).

Stored values pass through the modality transform and the VOI transform. An element that is there
and empty counts as absent where the standard has a meaning for its absence, and is refused by
name where it has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fl_sim.data.files.dicom import tag

if TYPE_CHECKING:
    from pydicom import Dataset


def displayed(stored: np.ndarray, file: Dataset) -> np.ndarray:
    """Return the picture, black at 0 and white at 1, whichever way the stored values run.

    Without a VOI transform values are stretched from the darkest to the brightest pixel. Padding
    (PS3.3, C.7.5.1.1.2) has no part in that, and is black.

    Parameters
    ----------
    stored : ndarray
        (H, W) numbers.
    file : Dataset
        What tells of them.

    Returns
    -------
    ndarray
        (H, W) float32 in [0, 1].

    Raises
    ------
    ValueError
        Naming the element that is missing, empty or out of range.
    """
    padding = is_padding(stored, file)
    if padding.all():
        raise ValueError(f"all pixels are of the {tag('PixelPaddingValue')}")
    values = _modality(stored, file)
    if not np.isfinite(values[~padding]).all():
        raise ValueError("pixels are not finite numbers")
    grey = _values_of_interest(values, file, padding)
    if file.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    return np.where(padding, 0, grey).astype(np.float32)


def is_padding(stored: np.ndarray, file: Dataset) -> np.ndarray:
    """Return which stored values (H, W) stand for no measurement, as booleans."""
    first = _number(file, "PixelPaddingValue")
    if first is None or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, dtype=bool)
    last = _number(file, "PixelPaddingRangeLimit")
    # Often written unsigned where pixels are signed, or the other way round.
    ends = [_as_stored(end, file) for end in (first, first if last is None else last)]
    return (stored >= min(ends)) & (stored <= max(ends))


def linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Map values to [0, 1] by a window (PS3.3, C.11.2.1.2.1); ``width`` >= 1."""
    if width == 1:  # a step
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def linear_exact(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Map values to [0, 1] by an exact window (PS3.3, C.11.2.1.3.2); ``width`` > 0."""
    return np.clip((values - center) / width + 0.5, 0, 1)


def sigmoid(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Map values to [0, 1] by a sigmoid window (PS3.3, C.11.2.1.3.1); ``width`` > 0."""
    with np.errstate(over="ignore"):  # exp on its way to 1 / inf
        return 1 / (1 + np.exp(-4 * (values - center) / width))


WINDOWS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": linear,
    "LINEAR_EXACT": linear_exact,
    "SIGMOID": sigmoid,
}
"""VOI LUT functions by the names of the standard."""


def _modality(stored: np.ndarray, file: Dataset) -> np.ndarray:
    """Return stored values as what the modality measured (PS3.3, C.11.1)."""
    from pydicom.pixels import apply_modality_lut

    if file.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, file), dtype=np.float64)
    values = stored.astype(np.float64)
    if "RescaleSlope" not in file and "RescaleIntercept" not in file:
        return values
    slope, intercept = _number(file, "RescaleSlope"), _number(file, "RescaleIntercept")
    for keyword, number in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if number is None:
            state = "empty" if keyword in file else "missing"
            raise ValueError(f"{tag(keyword)} is {state}, so what its pixels measure is unknown")
    assert slope is not None
    assert intercept is not None
    if slope == 0:
        raise ValueError(f"{tag('RescaleSlope')} is 0, which leaves one value for all pixels")
    return values * slope + intercept


def _values_of_interest(values: np.ndarray, file: Dataset, padding: np.ndarray) -> np.ndarray:
    """Return values as grey in [0, 1] by table, window or stretching (PS3.3, C.11.2)."""
    if file.get("VOILUTSequence"):
        return _looked_up(values, file)
    center, width = _number(file, "WindowCenter"), _number(file, "WindowWidth")
    if center is not None and width is not None:
        name = str(file.get("VOILUTFunction") or "LINEAR").strip().upper()
        if name not in WINDOWS:
            raise ValueError(f"{tag('VOILUTFunction')} is {name}; allowed are {', '.join(WINDOWS)}")
        least = 1.0 if name == "LINEAR" else np.nextafter(0.0, 1.0)
        if width < least:
            bound = "at least 1" if name == "LINEAR" else "above 0"
            raise ValueError(f"{tag('WindowWidth')} is {width:g}; allowed are numbers {bound}")
        return WINDOWS[name](values, center, width)
    low, high = float(values[~padding].min()), float(values[~padding].max())
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


def _looked_up(values: np.ndarray, file: Dataset) -> np.ndarray:
    from pydicom.pixels import apply_voi

    item = file.VOILUTSequence[0]
    for keyword in ("LUTDescriptor", "LUTData"):
        if not item.get(keyword):
            raise ValueError(f"{tag(keyword)} of its {tag('VOILUTSequence')} is missing or empty")
    # A lookup table is indexed by whole numbers, which rescaling has made floats.
    grey = apply_voi(np.rint(values).astype(np.int64), file)
    return np.clip(grey / (2.0 ** int(item.LUTDescriptor[2]) - 1), 0, 1)


def _number(file: Dataset, keyword: str) -> float | None:
    """Return the first number of an element; None where it is absent or empty."""
    try:
        value = file.get(keyword)
        if not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
            value = value[0] if len(value) else None
        if isinstance(value, bytes):  # a kind of element that only pixels tell apart
            signed = bool(file.get("PixelRepresentation"))
            value = int.from_bytes(value[:2], "little", signed=signed) if value else None
        number = None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{tag(keyword)} is not a number") from None
    if number is not None and not np.isfinite(number):
        raise ValueError(f"{tag(keyword)} is {number}")
    return number


def _as_stored(value: float, file: Dataset) -> int:
    """Return a value of 16 or fewer bits with the sign that the stored pixels have."""
    bits, number = int(file.BitsAllocated), int(value)
    number %= 2**bits
    signed = bool(file.PixelRepresentation)
    return number - 2**bits if signed and number >= 2 ** (bits - 1) else number
