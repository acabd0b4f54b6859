import base64
import io
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from adversary.common.results import Frame
from adversary.report import pictures
from adversary.scoring.image_scores import ImageScore
from adversary.storage import picture_files


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_single_pictures_hold_the_pixels(tmp_path, channels):
    images, truths = rand(2, channels, 9, 14), 1 - rand(2, channels, 9, 14)
    scores = [
        ImageScore(image=i, reconstruction=1 - i, truth=f"p{i}", psnr=20.0, ssim=0.5)
        for i in range(2)
    ]
    picture_files.write_files(tmp_path, pictures.result_images(images, scores, truths))
    for i in range(2):
        for kind, tensor in (("truth", truths[i]), ("reconstruction", images[1 - i])):
            shown = np.asarray(Image.open(tmp_path / f"{kind}-0{i}.png"))
            expected = (tensor.permute(1, 2, 0).numpy().squeeze() * 255).round()
            assert np.array_equal(shown, expected)


def test_the_grid_shows_truth_reconstruction_and_error_in_this_order(tmp_path):
    scores = [ImageScore(image=0, reconstruction=0, truth="p")]
    picture_files.write_files(
        tmp_path,
        pictures.result_images(
            torch.full((1, 1, 8, 8), 0.2), scores, torch.full((1, 1, 8, 8), 0.8)
        ),
    )
    grid = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).astype(int)
    middle = grid[grid.shape[0] // 2 + 20]
    expected = pictures.error_map(
        np.full((1, 1), 204, np.uint8), np.full((1, 1), 51, np.uint8)
    )[0, 0]  # fmt: skip
    assert tuple(middle[110]) == (204, 204, 204)
    assert tuple(middle[320]) == (51, 51, 51)
    assert np.abs(middle[530] - expected).max() <= 1


def test_the_process_is_a_strip_a_trial_and_image_that_ends_with_the_truth(tmp_path):
    """Trials order their images by themselves; files and figures go by the truth."""
    truths = torch.stack([torch.full((1, 8, 8), v) for v in (0.2, 0.8)])
    black = torch.zeros(2, 1, 8, 8)
    frames = [
        Frame(0, 0, 2.0, black), Frame(0, 9, 0.5, truths),
        Frame(1, 0, 3.0, black), Frame(1, 9, 0.4, truths.flip(0)),
    ]  # fmt: skip
    picture_files.write_files(tmp_path, pictures.process_files(frames, truths))
    names = [f"trial-{t:02d}-image-{i:02d}.png" for t in range(2) for i in range(2)]
    assert sorted(p.name for p in tmp_path.glob("*0?.png")) == names
    for name in names:
        level = (0.2, 0.8)[int(name[-5])]
        result = np.asarray(Image.open(tmp_path / name.replace(".png", "-result.png")))
        assert (result == round(255 * level)).all()
        figures = pd.read_csv(tmp_path / name.replace(".png", ".csv"))
        assert figures["iteration"].tolist() == [0, 9]
        assert figures["score"].tolist() == [2.0 + int(name[7]), 0.5 - 0.1 * int(name[7])]
        assert figures["mse"].tolist() == pytest.approx([level**2, 0], rel=1e-5, abs=1e-12)
        strip = np.asarray(Image.open(tmp_path / name).convert("L"))
        middle = strip[strip.shape[0] * 2 // 3]
        level = round(255 * (0.2, 0.8)[int(name[-5])])
        assert [middle[10 + 170 * panel + 80] for panel in range(3)] == [0, level, level]
    picture_files.write_files(tmp_path / "alone", pictures.process_files(frames))
    assert pd.read_csv(tmp_path / "alone" / names[2].replace("png", "csv"))["psnr"].isna().all()
    strip = np.asarray(Image.open(tmp_path / "alone" / names[2]).convert("L"))
    assert strip[strip.shape[0] * 2 // 3, 10 + 170 + 80] == 204  # in the trial's own order


def test_grids_grow_by_rows_up_to_a_limit_and_are_narrow_without_truth(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_GRID_ROWS", 3)

    def size(count, truths):
        scores = [ImageScore(image=i, reconstruction=i, truth="") for i in range(count)]
        images = rand(count, 1, 4, 4)
        picture_files.write_files(
            tmp_path, pictures.result_images(images, scores, images if truths else None)
        )
        return Image.open(tmp_path / "grid.png").size

    one, two, many = size(1, True), size(2, True), size(5, True)
    assert two == (one[0], 2 * one[1])
    assert many == (one[0], 3 * one[1])
    assert size(1, False)[0] < one[0] / 2


def test_broken_and_unmatched_images_are_drawn(tmp_path):
    images = torch.full((1, 1, 8, 8), torch.nan)
    scores = [
        ImageScore(image=0, reconstruction=0, truth="a"),
        ImageScore(image=1, reconstruction=None, truth="b"),
    ]
    picture_files.write_files(tmp_path, pictures.result_images(images, scores, rand(2, 1, 8, 8)))
    assert np.asarray(Image.open(tmp_path / "reconstruction-00.png")).max() == 0
    assert not (tmp_path / "reconstruction-01.png").exists()
    assert (tmp_path / "grid.png").exists()


def test_error_scale_is_fixed_and_saturates():
    black = np.zeros((1, 3), np.uint8)
    colours = pictures.error_map(black, np.array([[0, 128, 255]], np.uint8))[0].tolist()
    assert colours[0] == [0, 0, 3]
    assert colours[1] == colours[2] == [252, 254, 164]
    rgb = pictures.absolute_error(np.zeros((1, 1, 3)), np.array([[[255, 0, 0]]]))
    assert rgb.tolist() == [[pytest.approx(1 / 3)]]


@pytest.mark.parametrize("shape", [(32, 32), (256, 256), (500, 300, 3)])
def test_thumbnails_are_small(shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    uri = pictures.thumbnail(noise)
    assert len(uri) < 40_000  # 30 kB in base 64
    shown = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert max(shown.size) == min(160, max(shape[:2]))


def test_a_grid_is_drawn_quickly(tmp_path):
    images = rand(1, 1, 64, 64)
    scores = [ImageScore(image=0, reconstruction=0, truth="p")]
    picture_files.write_files(tmp_path, pictures.result_images(images, scores, images))
    times = []
    for _ in range(3):
        start = time.process_time()
        picture_files.write_files(tmp_path, pictures.result_images(images, scores, images))
        times.append(time.process_time() - start)
    assert min(times) < 0.3
