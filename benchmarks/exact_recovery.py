"""Gauss-Newton on one gradient: how exact the images come back, and at what cost.

Run as ``python -m benchmarks.exact_recovery --data pneumoniamnist.npz --model gelu --head binary
--batch 1,2``. The victim's gradient is float32; labels are recovered, not given. The last line is
JSON {"rows": [{model, head, batch, start, psnr, ssim, chi_square, steps, seconds}]}.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adversary import ThreatModel
from adversary.attacks import GaussNewton
from adversary.metrics import match
from benchmarks import common
from fl_sim.models import create

MODELS = {
    "lenet": ("lenet", "sigmoid"),
    "gelu": ("convnet", "gelu"),
    "silu": ("convnet", "silu"),
    "relu": ("convnet", "relu"),
}
HEADS = {"binary": 2, "100": 100}


def row(model: str, head: str, truths: Tensor, start: str, iterations: int) -> dict[str, Any]:
    name, activation = MODELS[model]
    victim = create(
        name,
        channels=truths.shape[1],
        image_size=truths.shape[-1],
        outputs=HEADS[head],
        activation=activation,
        seed=common.SEED,
    )
    posed = dataclasses.replace(common.problem(victim, truths), threat=ThreatModel())
    found = GaussNewton(iterations=iterations, start=start).run(posed, seed=common.SEED)
    order = [index for index in match(found.images, truths) if index is not None]
    measured = common.scores(found.images[order], truths)
    return {
        "model": model,
        "head": head,
        "batch": len(truths),
        "start": start,
        "psnr": measured["psnr"],
        "ssim": measured["ssim"],
        "chi_square": found.score,
        "steps": len(found.history) - 1,
        "seconds": found.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="npz of images")
    parser.add_argument("--model", choices=MODELS, default="gelu")
    parser.add_argument("--head", choices=HEADS, default="binary")
    parser.add_argument("--batch", type=common.counts, default=[1], help="e.g. 1,2,4")
    parser.add_argument("--start", choices=("grey", "randn"), default="grey")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    rows = []
    for batch in given.batch:
        truths = common.images(given.data, batch)
        rows.append(row(given.model, given.head, truths, given.start, given.iterations))
        if not given.json:
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    common.json_line({"rows": rows, "threads": used, "torch": torch.__version__})


if __name__ == "__main__":
    main()
