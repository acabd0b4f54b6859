"""What the benchmarks share: images from an npz, the victim's gradient, scores, a JSON line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn import functional as F

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.common.files import atomic_write
from adversary.common.seeding import generator
from adversary.priors.public import Prior
from adversary.problem.problem import Problem, build_problem
from adversary.scoring.metrics import fft2d, load_lpips, mse, psnr
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.data.sources.kermany import source
from fl_sim.models import create

SEED = 1234
OUTPUTS = 100


def images(path: Path, count: int, size: int = 32) -> Tensor:
    """Return the first images of an npz, (count, C, size, size) in [0, 1].

    The array is ``images`` or, in MedMNIST files, ``train_images``; (N, H, W) or (N, H, W, 3).
    """
    try:
        with np.load(path) as file:
            key = "images" if "images" in file else "train_images"
            pixels = file[key][:count]
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"--data {path}: no array of images there ({error})") from None
    if len(pixels) < count:
        raise SystemExit(f"--batch {count}: {path} has only {len(pixels)} images")
    return _prepared(pixels, size)


def _prepared(pixels: np.ndarray, size: int) -> Tensor:
    """Return (N, H, W) or (N, H, W, 3) bytes as (N, C, size, size) in [0, 1]."""
    found = torch.from_numpy(pixels).float() / 255
    found = found[:, None] if found.ndim == 3 else found.permute(0, 3, 1, 2).contiguous()
    if found.shape[-2:] == (size, size):
        return found
    return F.interpolate(found, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)


def labels(path: Path, count: int) -> Tensor:
    """Return the first class indices of a MedMNIST npz, (count,)."""
    with np.load(path) as file:
        return torch.from_numpy(file["train_labels"][:count].reshape(-1).astype(np.int64))


def labelled(path: Path, split: str, count: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Return a MedMNIST split's first images, as :func:`images`, and its classes.

    Of Kermany's zip file, whose own split has 16 images to validate with, "train" and "val" are
    images of other patients, in an order drawn by the seed.
    """
    if path.suffix == ".zip":
        return _of_kermany(path, split, count, size)
    try:
        with np.load(path) as file:
            pixels, labels = file[f"{split}_images"][:count], file[f"{split}_labels"][:count]
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"--data {path}: no split {split!r} there ({error})") from None
    if len(pixels) < count:
        raise SystemExit(f"--data {path}: {split} has only {len(pixels)} of {count} images")
    return _prepared(pixels, size), torch.from_numpy(labels).flatten().long()


def _of_kermany(path: Path, split: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    request = DatasetRequest(
        name="kermany",
        path=str(path),
        image_size=size,
        channels=1,
        num_images=0,
        public=0,
        test_fraction=0.0,
        seed=SEED,
    )
    found = source(request)
    part = {"train": "private", "val": "private", "test": "test"}[split]
    patients = sorted({p for p, of in zip(found.patients, found.parts, strict=True) if of == part})
    order = torch.randperm(len(patients), generator=generator(SEED, "patients")).tolist()
    half = len(patients) // 2
    chosen = {"train": order[:half], "val": order[half:], "test": order}[split]
    rank = {patients[index]: place for place, index in enumerate(chosen)}
    places = [i for i, p in enumerate(found.patients) if p in rank and found.parts[i] == part]
    places.sort(key=lambda i: rank[found.patients[i]])
    if len(places) < count:
        raise SystemExit(f"--data {path}: {split} has only {len(places)} of {count} images")
    taken = found.take(np.array(places[:count]))
    return taken.images.float() / 255, taken.labels


def victim(name: str, truths: Tensor, outputs: int = OUTPUTS) -> nn.Module:
    """Return the model at its initial weights, in evaluation mode."""
    channels, size = truths.shape[1], truths.shape[-1]
    model = create(name, channels=channels, image_size=size, outputs=outputs, seed=SEED)
    return model.eval()


def problem(
    model: nn.Module,
    truths: Tensor,
    *,
    batch_norm: str = "eval",
    device: torch.device | None = None,
    prior: Prior | None = None,
) -> Problem:
    """Return what the server has: the float32 gradient of images labelled 0, 1, ...; labels known.

    The paper's protocol: untrained weights, distinct labels, the labels recovered beforehand.
    """
    outputs = list(model.parameters())[-1].shape[0]
    labels = torch.arange(len(truths)) % outputs
    sent = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(batch_norm == "train")
    loss = F.cross_entropy(model(truths), labels)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    model.load_state_dict(sent)  # the running statistics moved
    names = [name for name, _ in model.named_parameters()]
    observation = Observation(
        round=1,
        client="client",
        sent=sent,
        returned=dict(zip(names, gradient, strict=True)),
        num_examples=len(truths),
        recipe=TrainingRecipe(
            lr=1.0,
            batch_size=len(truths),
            update="gradient",
            batch_norm="train" if batch_norm == "train" else "eval",
        ),
    )
    shape = (truths.shape[1], truths.shape[2], truths.shape[3])
    known = ThreatModel(labels=labels)
    return build_problem(
        observation, known, model.eval(), image_shape=shape, device=device, prior=prior
    )


def scores(found: Tensor, truths: Tensor) -> dict[str, float | None]:
    """Return the paper's measures, each the mean over the batch.

    Image i is compared with truth i: its label tells the place. SSIM as the paper computes it,
    with a uniform window of 7 pixels.
    """
    pairs = zip(truths.numpy(), found.numpy(), strict=True)
    similar = [
        structural_similarity(t, f, win_size=7, data_range=1, channel_axis=0) for t, f in pairs
    ]
    lpips, _ = load_lpips()
    return {
        "mse": float(mse(found, truths).mean()),
        "ssim": float(np.mean(similar)),
        "psnr": float(psnr(found, truths).mean()),
        "fft2d": float(fft2d(found, truths).mean()),
        "lpips": None if lpips is None else float(lpips(found, truths).mean()),
    }


def counts(text: str) -> list[int]:
    """Read ``1,2,4``, for argparse."""
    return [int(part) for part in text.split(",")]


def threads() -> int:
    """Use and return the number of threads: OMP_NUM_THREADS, else all cores."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    return torch.get_num_threads()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none where there is no file; a line that was cut off is no row."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def put_rows(path: Path, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """Put rows into a file, each in the place of an older one that has the same value of a key."""
    found = {one[key]: one for one in [*read_rows(path), *rows]}
    with atomic_write(path) as temporary:
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found.values())
        temporary.write_text(text, encoding="utf-8")


def json_line(value: dict[str, Any]) -> None:
    """Print the result as the last line."""
    print(json.dumps(value), flush=True)
