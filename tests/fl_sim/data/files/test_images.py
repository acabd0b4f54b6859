import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fl_sim.data import DataError
from fl_sim.data.errors import DataWarning
from fl_sim.data.files.depth import Depth
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


@pytest.mark.parametrize("format", ["TIFF", "BMP", "GIF", "WEBP", "PNG"])
def test_every_exact_format_gives_the_same_pixels(grey, format):
    options = {"lossless": True} if format == "WEBP" else {}
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format=format, **options)
    pixels = stack([("x", decode(buffer.getvalue(), "x"))], 7, 1, "test")
    np.testing.assert_array_equal(pixels[0, 0], grey[1:8])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(format, orientation):
    upright = np.zeros((16, 24), dtype=np.uint8)
    upright[:8, :8] = 255
    upright[:8, 8:16] = 128
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(stored))
    picture.save(buffer, format=format, exif=exif, **({"quality": 100} if format != "PNG" else {}))
    shown = decode(buffer.getvalue(), "x")
    shown = shown if shown.ndim == 2 else shown.mean(axis=2)
    np.testing.assert_allclose(shown, upright / 255, atol=0.06)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_are_told_and_can_be_set(format):
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    content, depth = encoded(values, format=format), Depth()
    np.testing.assert_allclose(decode(content, "x", depth), values / 65535, atol=1e-6)
    with pytest.warns(
        DataWarning, match=r"mine: .* 16 bits have no value above 4095, .* 4095 is wh"
    ):
        depth.tell("mine")
    depth = Depth(max_value=4095)
    np.testing.assert_allclose(decode(content, "x", depth), values / 4095, atol=1e-6)
    assert decode(encoded(np.full((3, 3), 255, np.uint8)), "x", depth).max() == 1  # of 8 bits
    with pytest.raises(
        DataError, match=r"x: .* up to 4096; data.max-value = 4095 must be at least"
    ):
        decode(encoded(values + 1), "x", depth)


def test_full_depth_is_not_told():
    depth = Depth()
    decode(encoded(np.array([[0, 60000]], dtype=np.uint16)), "x", depth)
    decode(encoded(np.array([[0, 250]], dtype=np.uint8)), "x", depth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        depth.tell("mine")


def test_sixteen_bit_tiff_whose_white_is_zero():
    values = np.array([[0, 60000], [65535, 100]], dtype=np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="TIFF", tiffinfo={262: 0})
    stored = buffer.getvalue()
    assert Image.open(io.BytesIO(stored)).tag_v2[262] == 0
    np.testing.assert_allclose(decode(stored, "x"), 1 - values / 65535, atol=1e-6)


def test_floating_point_needs_to_be_told_what_is_white():
    values = np.linspace(0, 1, 9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_allclose(decode(encoded(values, format="TIFF"), "x"), values, atol=1e-6)
    bright = encoded(values * 200, format="TIFF")
    with pytest.raises(
        DataError, match=r"x: holds numbers up to 200; data.max-value must be at le"
    ):
        decode(bright, "x")
    np.testing.assert_allclose(decode(bright, "x", Depth(200)), values, atol=1e-6)
    with pytest.raises(DataError, match=r"x: holds numbers from -1 to 0; allowed are >= 0"):
        decode(encoded(values - 1, format="TIFF"), "x")


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_refused(grey, format):
    buffer = io.BytesIO()
    first, second = Image.fromarray(grey), Image.fromarray(255 - grey)
    first.save(buffer, format=format, save_all=True, append_images=[second])
    with pytest.raises(DataError, match=r"scan\.x: holds 2 frames; allowed is one image a file"):
        decode(buffer.getvalue(), "scan.x")


def test_images_of_one_value_are_told(grey):
    pictures = [("a.png", decode(encoded(grey), "x")), ("b.png", np.full((9, 9), 0.4))]
    with pytest.warns(
        DataWarning, match=r"mine: 1 of 2 images are of one value .*\(the first is b"
    ):
        stack(pictures, 7, 1, "mine")


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
    ramp = np.linspace(0, 1, 8, dtype=np.float32)
    with pytest.warns(DataWarning, match=r"mine: 2 of 3 images are in colour .*a\.png") as caught:
        pixels = stack(
            [("a.png", red), ("b.png", red), ("c.png", red[..., 0] * ramp)], 8, 1, "mine"
        )
    assert len(caught) == 1
    assert pixels[0].eq(76).all()  # 0.299 * 255


def test_nothing_stacks_to_nothing():
    assert stack([], 8, 3, "test").shape == (0, 3, 8, 8)
    assert stack([], 8, 3, "test").dtype == torch.uint8


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_what_is_no_picture_is_named(content):
    with pytest.raises(DataError, match=r"scan\.png: cannot be read"):
        decode(content, "scan.png")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
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
