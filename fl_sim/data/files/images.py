"""From the bytes of a PNG, JPEG or DICOM file to square pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from fl_sim.data.errors import DataError, DataWarning
from fl_sim.data.files import dicom

LARGEST_FILE = 512 * 2**20
"""Bytes that one image may take in its file, unpacked from an archive."""

# Grey films saved as RGB JPEG differ by a few levels between channels; colour differs by more.
_GREY_TOLERANCE = 8 / 255

# ITU-R BT.601 luma, as in Pillow's conversion to "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def decode(content: bytes, where: str) -> np.ndarray:
    """Decode a file by what it holds, whatever it is called.

    Parameters
    ----------
    content : bytes
        A PNG or JPEG of any depth, or a DICOM file.
    where : str
        The file's name for error messages.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) float32 in [0, 1]; 16-bit PNGs are divided by 65535.

    Raises
    ------
    DataError
        If the file cannot be read or is too large.
    """
    if dicom.is_dicom(content):
        return dicom.decode(content, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        return _as_array(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{where}: too large; allowed are up to {Image.MAX_IMAGE_PIXELS} pixels"
        ) from None
    # A damaged file makes Pillow raise any of these.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = str(error) if not isinstance(error, Image.UnidentifiedImageError) else ""
        raise DataError(
            f"{where}: cannot be read as PNG, JPEG or DICOM{f' ({reason})' if reason else ''}"
        ) from None


def check_size(size: int, where: str) -> None:
    """Raise :class:`DataError` where a file is far too large for one image, before it is read."""
    if size > LARGEST_FILE:
        raise DataError(f"{where}: {size} bytes; allowed are up to {LARGEST_FILE} for an image")


def stack(
    pictures: Iterable[tuple[str, np.ndarray]], image_size: int, channels: int, where: str
) -> Tensor:
    """Bring pictures of any size to (N, channels, image_size, image_size) uint8.

    Parameters
    ----------
    pictures : iterable of (str, ndarray)
        Name and pixels as of :func:`decode`. Taken one by one, so only one is held at full size.
    image_size : int
        Side of the result.
    channels : int
        1: colour becomes grey, with one warning for all. 3: grey is repeated, colour kept.
    where : str
        The data set's name for the warning.
    """
    result = []
    coloured = []
    for name, picture in pictures:
        if picture.ndim == 3 and np.abs(np.diff(picture)).max() > _GREY_TOLERANCE:
            coloured.append(name)
        result.append(_square(picture, image_size, channels))
    if coloured and channels == 1:
        warnings.warn(
            f"{where}: {len(coloured)} of {len(result)} images are in colour (the first is"
            f" {coloured[0]}); they were converted to grey",
            DataWarning,
            stacklevel=2,
        )
    if not result:
        return torch.empty((0, channels, image_size, image_size), dtype=torch.uint8)
    return torch.stack(result)


def _as_array(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I"):
        return np.asarray(picture, dtype=np.float32) / 65535
    if picture.mode in {"1", "L", "LA"}:
        return np.asarray(picture.convert("L"), dtype=np.float32) / 255
    return np.asarray(picture.convert("RGB"), dtype=np.float32) / 255


def _square(picture: np.ndarray, image_size: int, channels: int) -> Tensor:
    """Crop the centre square, then resize with antialiasing.

    Cropping first keeps a very long and thin picture from becoming a huge one.
    """
    if picture.ndim == 3 and channels == 1:
        picture = picture @ _LUMA
    pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(picture))).movedim(-1, 0)
    pixels = transforms.center_crop(pixels, [min(pixels.shape[1:])] * 2)
    pixels = transforms.resize(pixels, [image_size, image_size], antialias=True)
    return pixels.mul(255).add(0.5).clamp(0, 255).byte().expand(channels, -1, -1)
