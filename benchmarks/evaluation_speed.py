"""Gradient-matching evaluations a second by execution and precision, and what they reconstruct.

Run as ``python -m benchmarks evaluation_speed --json``; on a GPU with ``--device cuda --size 224
--model resnet18,densenet121``. ING takes ``--iterations`` steps on the same update from the same
start in every way; the time of what is done once (tracing, compiling, capturing) is apart. With
``--breaching`` the package of that name (the extra ``bench``) runs beside them. The last line is
JSON {"rows": [{model, batch, who, execution, precision, evaluations_per_second, prepare_seconds,
psnr, note}], "device", "threads"}.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from adversary.adversary import resolve_device, threads_set
from adversary.attacks import ING
from adversary.metrics import psnr
from adversary.problem import Problem
from benchmarks import common
from benchmarks.versus_breaching import CLASSES, theirs
from fl_sim import data

WAYS = (
    ("eager", "full"),
    ("compiled", "full"),
    ("cuda-graph", "full"),
    ("eager", "tf32"),
    ("cuda-graph", "tf32"),
    ("eager", "bfloat16"),
    ("compiled", "bfloat16"),
    ("cuda-graph", "bfloat16"),
)
"""Execution and precision."""

GPU_ONLY = {"cuda-graph", "tf32"}


def ours(problem: Problem, truths: Tensor, way: tuple[str, str], iterations: int) -> dict[str, Any]:
    """Return the figures of one way; times are those of the history, after the first step."""
    execution, precision = way
    attack = ING(iterations=iterations, execution=execution, precision=precision)
    found = attack.run(problem, seed=common.SEED)
    times = [step.seconds for step in found.history]
    return {
        "who": "fl-sim",
        "execution": execution,
        "precision": precision,
        "evaluations_per_second": (len(times) - 1) / (found.seconds - times[0]),
        "prepare_seconds": times[0],
        "psnr": float(psnr(found.images, truths).mean()),
        "note": "; ".join(found.notes),
    }


def breaching(problem: Problem, truths: Tensor, iterations: int) -> dict[str, Any]:
    theirs(problem, 3, 1e-2, common.SEED)
    found = theirs(problem, iterations, 1e-2, common.SEED)
    return {
        "who": "breaching",
        "execution": "eager",
        "precision": "as it comes",
        "evaluations_per_second": found.evaluations / found.seconds,
        "prepare_seconds": 0.0,
        "psnr": float(psnr(found.images.cpu(), truths).mean()),
        "note": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet,convnet", help="e.g. resnet18,densenet121")
    parser.add_argument("--batch", type=common.counts, default=[1, 4], help="e.g. 1,4")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--breaching", action="store_true", help="run that package as well")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    device = resolve_device(given.device)
    used = common.threads()
    ways = [w for w in WAYS if device.type == "cuda" or not GPU_ONLY & set(w)]
    xrays = data.load("embedded", image_size=given.size).private
    rows = []
    for model in given.model.split(","):
        for batch in given.batch:
            truths = xrays.tensor(range(batch))
            victim = common.victim(model, truths, CLASSES)
            problem = common.problem(victim, truths, device=device)
            with threads_set(used):
                found = [ours(problem, truths, way, given.iterations) for way in ways]
                if given.breaching:
                    found.append(breaching(problem, truths, given.iterations))
            rows += [{"model": model, "batch": batch} | row for row in found]
            if not given.json:
                for row in rows[-len(found) :]:
                    print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    common.json_line({"rows": rows, "device": name, "threads": used, "size": given.size})


if __name__ == "__main__":
    main()
