"""From the bytes of a picture or DICOM file to square pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fl_sim.data.errors import DataError, DataWarning
from fl_sim.data.files import dicom
from fl_sim.data.files.depth import Depth

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""What Pillow may take a file for; all of its formats would be many more to trust."""

LARGEST_FILE = 512 * 2**20
"""Bytes that one image may take in its file, unpacked from an archive."""

# Grey films saved as RGB JPEG differ by a few levels between channels; colour differs by more.
_GREY_TOLERANCE = 8 / 255

# ITU-R BT.601 luma, as in Pillow's conversion to "L".
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def decode(content: bytes, where: str, depth: Depth | None = None) -> np.ndarray:
    """Decode a file by what it holds, whatever it is called.

    Parameters
    ----------
    content : bytes
        A picture in one of :data:`FORMATS`, of any depth, or a DICOM file. A picture is turned
        as its EXIF orientation says.
    where : str
        The file's name for error messages.
    depth : Depth, optional
        What is white in it; by default the full scale of its format, 65535 for 16 bits.

    Returns
    -------
    ndarray
        (H, W) or (H, W, 3) float32 in [0, 1].

    Raises
    ------
    DataError
        If the file cannot be read, is too large, or holds several pictures.
    """
    if dicom.is_dicom(content):
        return dicom.decode(content, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content), formats=FORMATS)
        frames = getattr(picture, "n_frames", 1)
        if frames != 1 and picture.format in FORMATS:  # a photograph may have a preview
            raise DataError(f"{where}: holds {frames} frames; allowed is one image a file")
        return _as_array(picture, where, depth or Depth())
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{where}: too large; allowed are up to {Image.MAX_IMAGE_PIXELS} pixels"
        ) from None
    # A damaged file makes Pillow raise any of these, and its parsers a few more.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        TypeError,
        KeyError,
        OverflowError,
    ) as error:
        reason = str(error) if not isinstance(error, Image.UnidentifiedImageError) else ""
        raise DataError(
            f"{where}: cannot be read as PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM"
            f"{f' ({reason})' if reason else ''}"
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
        The data set's name for the warning, and for one about images of a single value.
    """
    result = []
    coloured = []
    flat = []
    for name, picture in pictures:
        if picture.min() == picture.max():
            flat.append(name)
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
    if flat:
        warnings.warn(
            f"{where}: {len(flat)} of {len(result)} images are of one value all over, which is"
            f" suspicious (the first is {flat[0]})",
            DataWarning,
            stacklevel=2,
        )
    if not result:
        return torch.empty((0, channels, image_size, image_size), dtype=torch.uint8)
    return torch.stack(result)


def _as_array(picture: Image.Image, where: str, depth: Depth) -> np.ndarray:
    picture.load()
    full, inverse = _scale(picture)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] not in "IF":
        grey = picture.mode in {"1", "L", "LA"}
        values = np.asarray(picture.convert("L" if grey else "RGB"), dtype=np.float32)
        return depth.scaled(values, 255, where)
    shown = depth.scaled(np.asarray(picture, dtype=np.float64), full, where)
    return 1 - shown if inverse else shown


def _scale(picture: Image.Image) -> tuple[int | None, bool]:
    """Return the full scale of a picture of more than 8 bits, and whether 0 is its white."""
    # Photometric interpretation and bits per sample of TIFF 6.0, which Pillow leaves alone here.
    tags = getattr(picture, "tag_v2", {})
    bits = tags.get(258, (16,))[0]
    full = 2 ** min(bits, 16) - 1 if picture.mode != "F" else None
    return full, tags.get(262) == 0


def _square(picture: np.ndarray, image_size: int, channels: int) -> Tensor:
    """Crop the centre square, then resize with antialiasing.

    Cropping first keeps a very long and thin picture from becoming a huge one.
    """
    from torchvision.transforms.v2 import functional as transforms  # slow to import

    if picture.ndim == 3 and channels == 1:
        picture = picture @ _LUMA
    pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(picture))).movedim(-1, 0)
    pixels = transforms.center_crop(pixels, [min(pixels.shape[1:])] * 2)
    pixels = transforms.resize(pixels, [image_size, image_size], antialias=True)
    return pixels.mul(255).add(0.5).clamp(0, 255).byte().expand(channels, -1, -1)
