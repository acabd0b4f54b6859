"""Seconds until a reconstruction has 20 dB, here and in the breaching package.

Run as ``python -m benchmarks.time_to_target --json``, with breaching installed (the extra
``bench``). Update, labels, model and starts as in :mod:`benchmarks.versus_breaching`. An optimiser
with a schedule has to know its number of steps beforehand, so each is run for 10, 25, 50, ...
steps, every number from the same starts, until the mean PSNR over the starts reaches the target;
the time is the median of the runs with that number of steps. From a start of noise; here by each
of ``--attacks``, there by Inverting Gradients. The last line is JSON {"rows": [{model, batch, who,
attack, iterations, psnr, seconds}], "target", "threads"}; where the target is not reached, the
figures are those of the most steps, and ``reached`` is false.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import Any

from torch import Tensor

from adversary.attacks import create
from adversary.problem import Problem
from benchmarks import common
from benchmarks.versus_breaching import CLASSES, Result, theirs
from fl_sim import data

STEPS = (5, 10, 25, 50, 100, 200, 400, 800)

Runner = Callable[[Problem, int, int], Result]
"""From a problem, a number of steps and a seed to what was found."""


def ours(attack: str, problem: Problem, steps: int, seed: int) -> Result:
    found = create(attack, {"iterations": str(steps)}, start="randn").run(problem, seed=seed)
    return Result(found.images, found.evaluations, found.seconds)


def breaching(tv: float, problem: Problem, steps: int, seed: int) -> Result:
    return theirs(problem, steps, tv, seed)


def row(run: Runner, problem: Problem, truths: Tensor, given: argparse.Namespace) -> dict[str, Any]:
    """Return the first number of steps that reaches the target, or the last one."""
    run(problem, 3, 0)  # warm up
    for steps in STEPS:
        if steps > given.iterations:
            break
        results = [run(problem, steps, start) for start in range(given.starts)]
        found = {
            "iterations": steps,
            "psnr": mean(float(common.scores(r.images, truths)["psnr"] or 0) for r in results),
            "seconds": median(r.seconds for r in results),
        }
        if found["psnr"] >= given.target:
            return found | {"reached": True}
    return found | {"reached": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet,convnet,resnet18", help="e.g. lenet,convnet")
    parser.add_argument("--batch", type=common.counts, default=[1], help="e.g. 1,4")
    parser.add_argument("--attacks", default="dlg,ing", help="e.g. dlg,gauss-newton")
    parser.add_argument("--iterations", type=int, default=800, help="steps at most")
    parser.add_argument("--target", type=float, default=20.0, help="mean PSNR to reach, dB")
    parser.add_argument("--tv", type=float, default=1e-2, help="total variation of breaching's")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--starts", type=int, default=4, help="starts to run each from")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    xrays = data.load("embedded", image_size=given.size).private
    contestants: list[tuple[str, str, Runner]] = [
        *(("fl-sim", attack, partial(ours, attack)) for attack in given.attacks.split(",")),
        ("breaching", "ing", partial(breaching, given.tv)),
    ]
    rows = []
    for model in given.model.split(","):
        for batch in given.batch:
            truths = xrays.tensor(range(batch))
            problem = common.problem(common.victim(model, truths, CLASSES), truths)
            for who, attack, run in contestants:
                about = {"model": model, "batch": batch, "who": who, "attack": attack}
                rows.append(about | row(run, problem, truths, given))
                if not given.json:
                    print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    common.json_line({"rows": rows, "target": given.target, "threads": used})


if __name__ == "__main__":
    main()
