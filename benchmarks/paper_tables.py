"""The tables of the EncGradInversion paper (Dao and Lee 2025) on given images.

    python -m benchmarks paper_tables --table IX --data cifar.npz --batch 1,2,4,8 --json

III: error of the encodings. IV: EncGradInversion by model. VII, VIII: phase 2 against phase 3.
IX: the attacks on LeNet. Weights are untrained, labels distinct and known, gradients float32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from adversary.attacks import create
from adversary.attacks.encgrad import ENCODINGS
from benchmarks import common

MODELS = {
    "LeNet": "lenet",
    "ResNet18": "resnet18-sigmoid",
    "MobileNet": "mobilenet",
    "EfficientNet0": "efficientnet0",
}
PHASES = {"EncGradInversion phase 2": {"refine": "0"}, "EncGradInversion phase 3": {}}
ATTACKS: dict[str, tuple[str, dict[str, str]]] = {
    "DLG": ("dlg", {}),
    "STG": ("stg", {}),
    "ING": ("ing", {}),
    "IGI": ("igi", {}),
    "EncGradInversion": ("encgrad", {}),
    **{name: ("encgrad", options) for name, options in PHASES.items()},
}
TABLES: dict[str, tuple[list[str], list[str]]] = {
    "III": (["LeNet"], ["OHA", "GRA", "consistent"]),
    "IV": (list(MODELS), ["EncGradInversion"]),
    "VII": (["LeNet"], list(PHASES)),
    "VIII": (["ResNet18"], list(PHASES)),
    "IX": (["LeNet"], ["DLG", "STG", "ING", "IGI", "EncGradInversion"]),
}
MEASURES = ["mse", "ssim", "psnr", "fft2d", "lpips", "relative_mse", "seconds"]
KEYS = ["table", "model", "batch", "method"]


def encodings_row(model: str, method: str, truths: Tensor) -> tuple[dict[str, Any], None]:
    """Return the mean squared error of the encodings, and relative to their variance."""
    net = common.victim(MODELS[model], truths)
    posed = common.problem(net, truths)
    targets = posed.targets(posed.threat.labels)  # type: ignore[arg-type]
    before = time.perf_counter()
    found = ENCODINGS[method.lower()](posed, targets, 0).values
    seconds = time.perf_counter() - before
    with torch.no_grad():
        true = posed.to(torch.float64).encode(truths.double())
    error = float((found - true).square().mean())
    spread = float(true.var(0, correction=0).mean())
    relative = error / spread if len(true) > 1 else None
    return {"mse": error, "relative_mse": relative, "seconds": seconds}, None


def images_row(model: str, method: str, truths: Tensor) -> tuple[dict[str, Any], Tensor]:
    """Return the scores of an attack's images, and the images.

    The ResNet18 normalises by batch statistics, as in the paper; with its running ones its first
    encodings hardly depend on the image.
    """
    batch_norm = "train" if model == "ResNet18" else "eval"
    posed = common.problem(common.victim(MODELS[model], truths), truths, batch_norm=batch_norm)
    name, options = ATTACKS[method]
    found = create(name, options).run(posed, seed=common.SEED)
    return common.scores(found.images, truths) | {"seconds": found.seconds}, found.images


def measured(
    table: str, data: Path, batches: list[int], models: list[str], methods: list[str]
) -> Iterator[tuple[dict[str, Any], Tensor, Tensor | None]]:
    """Yield each row with its truths and images."""
    row = encodings_row if table == "III" else images_row
    for model in models:
        for batch in batches:
            truths = common.images(data, batch)
            for method in methods:
                values, found = row(model, method, truths)
                about = {"table": table, "dataset": data.stem, "model": model}
                about |= {"batch": batch, "method": method}
                yield about | {m: values.get(m) for m in MEASURES}, truths, found


def show(rows: list[dict[str, Any]], published: Path | None) -> None:
    """Print the rows, with the published values after each measured one."""
    paper = {}
    if published is not None:
        frame = pd.read_csv(published)
        frame = frame[frame["dataset"] == "CIFAR-100"]
        paper = {tuple(r[k] for k in KEYS): r for r in frame.to_dict("records")}
    shown = Table(title=f"Table {rows[0]['table']}: measured (published, CIFAR-100)")
    for name in ["model", "batch", "method", *MEASURES]:
        shown.add_column(name)
    for row in rows:
        beside = paper.get(tuple(row[k] for k in KEYS), {})
        cells = [_cell(row[m], beside.get(m)) for m in MEASURES]
        shown.add_row(row["model"], str(row["batch"]), row["method"], *cells)
    Console(stderr=True, width=160).print(shown)


def _cell(value: float | None, published: float | None) -> str:
    text = "" if value is None else f"{value:.3g}"
    return text if published is None or pd.isna(published) else f"{text} ({published:.3g})"


def draw(panels: list[tuple[str, Tensor]], path: Path) -> None:
    """Draw batches of images, a line each."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    wide = min(8, max(len(batch) for _, batch in panels))
    figure, axes = plt.subplots(
        len(panels), wide, figsize=(wide, 1.15 * len(panels)), squeeze=False
    )
    for line, (title, batch) in zip(axes, panels, strict=True):
        line[0].set_title(title, fontsize=7, loc="left")
        for place, axis in enumerate(line):
            axis.axis("off")
            if place < len(batch):
                pixels = batch[place].permute(1, 2, 0).squeeze(-1).numpy()
                axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _choices(option: str, text: str | None, known: list[str]) -> list[str]:
    chosen = known if text is None else text.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise SystemExit(f"{option} {unknown[0]}: must be of {', '.join(known)}")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, required=True)
    parser.add_argument("--data", type=Path, required=True, help="npz: images (N, H, W[, 3])")
    parser.add_argument("--batch", type=common.counts, default=[1, 2, 4, 8])
    parser.add_argument("--models", help="some of the table's models, by comma")
    parser.add_argument("--methods", help="some of the table's methods, by comma")
    parser.add_argument("--published", type=Path, help="csv of the published tables")
    parser.add_argument("--picture", type=Path, help="file for the images")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    known_models, known_methods = TABLES[arguments.table]
    models = _choices("--models", arguments.models, known_models)
    methods = _choices("--methods", arguments.methods, known_methods)
    common.threads()

    rows, panels = [], []
    progress = Console(stderr=True)
    table, data, batches = arguments.table, arguments.data, arguments.batch
    for row, truths, found in measured(table, data, batches, models, methods):
        rows.append(row)
        told = ", ".join(f"{m} {row[m]:.3g}" for m in MEASURES if row[m] is not None)
        progress.print(f"{row['model']}, batch {row['batch']}, {row['method']}: {told}")
        if found is not None:
            title = f"{row['model']}, {row['batch']}"
            if not any(name == title for name, _ in panels):
                panels.append((title, truths))
            panels.append((f"{row['method']}: SSIM {row['ssim']:.3f}", found))
    show(rows, arguments.published)
    if arguments.picture and panels:
        draw(panels, arguments.picture)
    if arguments.json:
        common.json_line({"rows": rows})


if __name__ == "__main__":
    main()
