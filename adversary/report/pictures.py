"""Pictures of reconstructions: single images, the grid of a reconstruction, thumbnails."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adversary.common.results import Files, Frame, Pictures, Reconstruction
from adversary.report.contact_sheets import Panel, Pixels, sheet
from adversary.scoring import metrics
from adversary.scoring.image_scores import ImageScore, missing_scores
from adversary.scoring.scorer import ScoredResult

ERROR_SCALE = 0.5
"""Absolute error shown in the brightest colour; the same in every picture, so they compare."""

_COLOURS = colormaps["inferno"]
_THUMBNAIL_SIDE = 160
_GRID_ROWS = 32
_GRID_SIDE = 200
_STRIP_SIDE = 160
_PNG_BYTES = 20_000


def draw(
    reconstruction: Reconstruction,
    scores: Sequence[ImageScore] | None = None,
    truths: Tensor | None = None,
    deviation: Tensor | None = None,
) -> Pictures:
    """Draw all that is shown of one attack on one update.

    Parameters
    ----------
    reconstruction : Reconstruction
        What the attack gave; images (B, C, H, W) in [0, 1], C of 1 or 3 (of others the first
        channel is shown).
    scores : sequence of ImageScore, optional
        One an image, as :func:`result_images` wants them; by default one a reconstruction.
    truths : Tensor, optional
        (T, C, H, W), the true images that ``scores`` counts by.
    deviation : Tensor, optional
        (T, C, H, W), as :func:`bound_images` wants it.
    """
    scores = missing_scores(reconstruction) if scores is None else scores
    found = result_images(reconstruction.images, scores, truths)
    if deviation is not None:
        found |= bound_images(deviation)
    return Pictures(found, process_files(reconstruction.frames, truths))


def of_result(scored: ScoredResult) -> Pictures | None:
    """Return the pictures of an attack that gave something; the part of writing that takes time."""
    if scored.outcome.reconstruction is None:
        return None
    bound = scored.bound
    # From a few probes the mean is good and the map is noise.
    deviation = bound.deviation if bound is not None and bound.method == "dense" else None
    return draw(scored.outcome.reconstruction, scored.scores, scored.truths, deviation)


def result_images(
    reconstructions: Tensor, scores: Sequence[ImageScore], truths: Tensor | None = None
) -> Files:
    """Return truth-00.png, reconstruction-00.png and so on, and grid.png.

    The grid shows the first 32 images.

    Parameters
    ----------
    reconstructions : Tensor
        (B, C, H, W) in [0, 1], C of 1 or 3 (of others the first channel is shown).
    scores : sequence of ImageScore
        One an image; ``image`` numbers the files, ``reconstruction`` says which one is shown.
    truths : Tensor, optional
        (T, C, H, W), counted by ``image``. Without it the grid shows reconstructions only.
    """
    files: Files = {}
    rows: list[tuple[ImageScore, Pixels | None, Pixels | None]] = []
    for score in scores:
        truth = None if truths is None else to_pixels(truths[score.image])
        found = None
        if score.reconstruction is not None:
            found = to_pixels(reconstructions[score.reconstruction])
        rows.append((score, truth, found))
        for kind, pixels in (("truth", truth), ("reconstruction", found)):
            if pixels is not None:
                files[_name(kind, score.image)] = _encoded(Image.fromarray(pixels), "png")
    files["grid.png"] = _encoded(_grid(rows[:_GRID_ROWS]), "png")
    return files


def bound_images(deviation: Tensor) -> Files:
    """Return bound-00.png and so on: the least standard deviation by pixel, (T, C, H, W).

    Brightest is the largest of each image, as bounds differ by powers of ten.
    """
    files: Files = {}
    for index, image in enumerate(deviation.detach().cpu().double()):
        values = image.mean(0).numpy()
        colours = _COLOURS(values / max(values.max(), 1e-300), bytes=True)
        drawn = Image.fromarray(np.ascontiguousarray(colours[..., :3]))
        files[_name("bound", index)] = _encoded(drawn, "png")
    return files


def process_files(frames: Sequence[Frame], truths: Tensor | None = None) -> Files:
    """Return how each image of each trial came about.

    Of each, ``trial-00-image-00.png`` has all its pictures side by side, ``.csv`` by that name
    their figures (iteration, score, mse, psnr), and ``-result.png`` what it came to.

    Parameters
    ----------
    frames : sequence of Frame
        Of all trials, each one's in the order of its steps.
    truths : Tensor, optional
        (T, C, H, W). A trial's images are then numbered, and measured, by those that its last
        ones match; the truth is the last panel.
    """
    trials: dict[int, list[Frame]] = {}
    for frame in frames:
        trials.setdefault(frame.restart, []).append(frame)
    files: Files = {}
    for trial, steps in sorted(trials.items()):
        result = steps[-1].images
        found: Sequence[int | None] = range(len(result))
        if truths is not None:
            found = metrics.match_images(result, truths)
        for image, row in enumerate(found):
            if row is None:
                continue
            truth = None if truths is None else truths[image]
            name = f"trial-{trial:02d}-image-{image:02d}"
            files[f"{name}.png"] = _encoded(_strip(steps, row, truth), "png")
            files[f"{name}.csv"] = _figures(steps, row, truth)
            files[f"{name}-result.png"] = encoded(to_pixels(result[row]))
    return files


def picture_path(folder: Path, kind: str, image: int) -> Path:
    """Return the file of one image; ``kind`` is "truth", "reconstruction" or "bound"."""
    return folder / _name(kind, image)


def read(path: Path) -> Pixels | None:
    """Return a picture as it was saved, None where it is missing, damaged or far too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                return np.asarray(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    except (OSError, SyntaxError, ValueError, EOFError):  # a damaged file raises any of these
        return None


def to_pixels(image: Tensor) -> Pixels:
    """Return an image (C, H, W) as (H, W) or (H, W, 3) uint8; non-finite pixels are black."""
    values = image.detach().cpu().double().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    values = values.permute(1, 2, 0) if len(values) == 3 else values[0]
    pixels: Pixels = values.mul(255).round().byte().numpy()
    return pixels


def absolute_error(truth: Pixels, reconstruction: Pixels) -> NDArray[np.float64]:
    """Return the absolute error a pixel, (H, W) in [0, 1], the mean over channels."""
    error = np.abs(truth.astype(np.float64) - reconstruction) / 255
    return error.mean(axis=-1) if error.ndim == 3 else error


def error_map(truth: Pixels, reconstruction: Pixels) -> Pixels:
    """Return the absolute error in colours of the fixed scale, (H, W, 3)."""
    colours = _COLOURS(absolute_error(truth, reconstruction) / ERROR_SCALE, bytes=True)
    return np.ascontiguousarray(colours[..., :3])


def thumbnail(pixels: Pixels) -> str:
    """Return a picture of at most 160 pixels a side as a data URI, below 30 kB."""
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    data = _encoded(image, "png")
    if len(data) > _PNG_BYTES:  # lossless where it is cheap
        return _data_uri(_encoded(image, "jpeg", quality=85), "jpeg")
    return _data_uri(data, "png")


def palette(pixels: Pixels) -> str:
    """Return a picture in its own size and few colours, as a data URI."""
    image = Image.fromarray(pixels).convert("RGB").quantize(64)
    return _data_uri(_encoded(image, "png", optimize=True), "png")


def colour_bar() -> str:
    """Return the legend of error maps, no error on the left, as a data URI."""
    ramp = np.tile(np.linspace(0, 1, 128), (8, 1))
    colours = _COLOURS(ramp, bytes=True)[..., :3]
    return _data_uri(_encoded(Image.fromarray(np.ascontiguousarray(colours)), "png"), "png")


def encoded(pixels: Pixels) -> bytes:
    """Return a picture as a PNG file."""
    return _encoded(Image.fromarray(pixels), "png")


def _name(kind: str, image: int) -> str:
    return f"{kind}-{image:02d}.png"


def _encoded(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def _data_uri(data: bytes, format: str) -> str:
    return f"data:image/{format};base64,{base64.b64encode(data).decode()}"


def _grid(rows: Sequence[tuple[ImageScore, Pixels | None, Pixels | None]]) -> Image.Image:
    """Draw a row an image: truth, reconstruction and absolute error, as far as they are there."""
    with_truth = any(truth is not None for _, truth, _ in rows)
    panels = [list(_panels(score, truth, found, with_truth)) for score, truth, found in rows]
    return sheet(panels, _GRID_SIDE, legend=_legend() if with_truth else None)


def _legend() -> tuple[Pixels, list[str]]:
    ramp = _COLOURS(np.linspace(1, 0, 64)[:, None], bytes=True)[..., :3]
    words = [f"≥{ERROR_SCALE:g}", f"{ERROR_SCALE / 2:g}", "0"]
    return np.ascontiguousarray(ramp), words


def _strip(steps: Sequence[Frame], row: int, truth: Tensor | None) -> Image.Image:
    """Draw one image at every step, side by side, and the truth behind them."""
    panels: list[Panel] = [
        (_progress(step, row, truth), to_pixels(step.images[row])) for step in steps
    ]
    if truth is not None:
        panels.append(("truth", to_pixels(truth)))
    return sheet([panels], _STRIP_SIDE)


def _figures(steps: Sequence[Frame], row: int, truth: Tensor | None) -> bytes:
    """Return a table of one image at every step; without the truth it has no errors."""
    import pandas as pd  # slow to import

    table = pd.DataFrame(
        {
            "iteration": [step.iteration for step in steps],
            "score": [step.score for step in steps],
            "mse": [_measured(metrics.mse, step, row, truth) for step in steps],
            "psnr": [_measured(metrics.psnr, step, row, truth) for step in steps],
        }
    )
    return table.to_csv(index=False).encode()


def _measured(
    measure: Callable[[Tensor, Tensor], Tensor], step: Frame, row: int, truth: Tensor | None
) -> float | None:
    return None if truth is None else float(measure(step.images[row][None], truth[None].cpu()))


def _progress(step: Frame, row: int, truth: Tensor | None) -> str:
    said = f"step {step.iteration}\nscore {step.score:.3g}"
    psnr = _measured(metrics.psnr, step, row, truth)
    return said if psnr is None else f"{said}, {psnr:.1f} dB"


def _panels(
    score: ImageScore, truth: Pixels | None, found: Pixels | None, with_truth: bool
) -> Iterator[tuple[str, Pixels | None]]:
    if not with_truth:
        yield f"reconstruction {score.image}", found
        return
    yield f"truth {score.image}", truth
    values = [
        text.format(value)
        for text, value in (("{:.1f} dB", score.psnr), ("SSIM {:.2f}", score.ssim))
        if value is not None
    ]
    quality = ", ".join(values) or "no value"
    yield f"reconstruction: {quality}" if found is not None else "not reconstructed", found
    both = truth is not None and found is not None
    yield "absolute error", error_map(truth, found) if both else None  # type: ignore[arg-type]
