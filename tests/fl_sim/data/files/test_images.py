import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fl_sim.data import DataError
from fl_sim.data.errors import DataWarning
from fl_sim.data.files.images import decode, stack


def encoded(array, mode=None, format="PNG"):
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(buffer, format=format)
    return buffer.getvalue()


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)


def test_8_bit_png_is_exact(grey):
    np.testing.assert_array_equal(decode(encoded(grey), "x"), (grey / 255).astype(np.float32))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_in_any_mode_is_the_same_grey(grey, mode):
    pixels = stack([("x", decode(encoded(grey, mode), "x"))], 7, 1, "test")
    np.testing.assert_allclose(pixels[0, 0], grey[1:8], atol=1)


def test_1_bit_png():
    bits = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(decode(encoded(bits, "1"), "x"), bits / 255)


def test_16_bit_png_is_scaled_by_its_depth():
    values = np.array([[0, 1, 255], [256, 32768, 65535]], dtype=np.uint16)
    content = encoded(values)
    assert Image.open(io.BytesIO(content)).mode.startswith("I")
    np.testing.assert_allclose(decode(content, "x"), values / 65535, atol=1e-7)


def test_jpeg_is_read(grey):
    smooth = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    np.testing.assert_allclose(
        decode(encoded(smooth, format="JPEG"), "x"), smooth / 255, atol=6 / 255
    )


def test_the_right_size_is_left_alone(grey):
    pixels = stack([("x", decode(encoded(grey[:7]), "x"))], 7, 1, "test")
    np.testing.assert_array_equal(pixels[0, 0], grey[:7])


def test_long_pictures_are_cropped_to_the_centre():
    wide = np.zeros((8, 24), dtype=np.float32)
    wide[:, 8:16] = 1
    for picture in (wide, wide.T.copy()):
        assert stack([("x", picture)], 8, 1, "test").eq(255).all()
        assert stack([("x", picture)], 4, 1, "test").eq(255).all()


def test_shrinking_averages_and_does_not_alias():
    checkers = np.indices((64, 64)).sum(axis=0) % 2
    pixels = stack([("x", checkers.astype(np.float32))], 16, 1, "test")[0, 0, 2:-2, 2:-2]
    assert (pixels.int() - 127).abs().max() <= 2


def test_three_channels_repeat_grey_and_keep_colour():
    grey = np.full((8, 8), 0.5, dtype=np.float32)
    red = np.zeros((8, 8, 3), dtype=np.float32)
    red[..., 0] = 1
    pixels = stack([("grey", grey), ("red", red)], 8, 3, "test")
    assert pixels[0].eq(128).all()
    assert pixels[1].amax((1, 2)).tolist() == [255, 0, 0]


def test_colour_becomes_grey_with_one_warning():
    red = np.zeros((8, 8, 3), dtype=np.float32)
    red[..., 0] = 1
    with pytest.warns(DataWarning, match=r"mine: 2 of 3 images are in colour .*a\.png") as caught:
        pixels = stack([("a.png", red), ("b.png", red), ("c.png", red[..., 1])], 8, 1, "mine")
    assert len(caught) == 1
    assert pixels[0].eq(76).all()  # 0.299 * 255


def test_nothing_stacks_to_nothing():
    assert stack([], 8, 3, "test").shape == (0, 3, 8, 8)
    assert stack([], 8, 3, "test").dtype == torch.uint8


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_what_is_no_picture_is_named(content):
    with pytest.raises(DataError, match=r"scan\.png: cannot be read"):
        decode(content, "scan.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_cut_off_file_is_named(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    content = encoded(noise, format=format)
    with pytest.raises(DataError, match=r"scan\.x: cannot be read") as caught:
        decode(content[: len(content) // 2], "scan.x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [12_000, 40_000])  # Pillow warns of the first, refuses the second
def test_an_image_bomb_is_refused(side):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
    with pytest.raises(DataError, match=r"bomb\.png: too large; allowed are up to 89478485 pixels"):
        decode(content, "bomb.png")
