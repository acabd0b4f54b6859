"""Seconds until a reconstruction has 20 dB, here and in the breaching package.

Run as ``python -m benchmarks time_to_target --json``, with breaching installed (the extra
``bench``). Update, labels, model and starts as in :mod:`benchmarks.versus_breaching`. An optimiser
with a schedule has to know its number of steps beforehand, so each is run for 5, 7, 10, 14, ...
steps, every number from the same starts, until the mean PSNR over the starts reaches the target;
the time is the median of the runs with that number of steps. Here by each of ``--attacks``, from
noise or, after an @, another start (``dlg@mean``: the mean public X-ray, which that package has no
use for); there by Inverting Gradients from noise. The last line is JSON {"rows": [{model, batch,
who, attack, iterations, psnr, seconds, reached}], "target", "threads"}; where the target is not
reached, the figures are those of the most steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import mean, median
from typing import Any

from torch import Tensor

from adversary.attacks import create
from adversary.metrics import psnr
from adversary.priors import Prior
from adversary.problem import Problem
from benchmarks import common
from benchmarks.versus_breaching import CLASSES, Result, theirs
from fl_sim import data

STEPS = tuple(round(5 * 2 ** (k / 2)) for k in range(16))

Runner = Callable[[Problem, int, int], Result]
"""From a problem, a number of steps and a seed to what was found."""


def ours(attack: str, problem: Problem, steps: int, seed: int) -> Result:
    name, _, start = attack.partition("@")
    made = create(name, {"iterations": str(steps)}, start=start or "randn")
    found = made.run(problem, seed=seed)
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
            "psnr": mean(float(psnr(r.images, truths).mean()) for r in results),
            "seconds": median(r.seconds for r in results),
        }
        if found["psnr"] >= given.target:
            return found | {"reached": True}
    return found | {"reached": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet,convnet,resnet18", help="e.g. lenet,convnet")
    parser.add_argument("--batch", type=common.counts, default=[1], help="e.g. 1,4")
    parser.add_argument("--attacks", default="dlg,dlg@mean,ing", help="e.g. dlg,igi@grey")
    parser.add_argument("--iterations", type=int, default=800, help="steps at most")
    parser.add_argument("--target", type=float, default=20.0, help="mean PSNR to reach, dB")
    parser.add_argument("--tv", type=float, default=1e-2, help="total variation of breaching's")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--starts", type=int, default=4, help="starts to run each from")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    images = data.load("embedded", image_size=given.size)
    prior = Prior(images.public.tensor(range(len(images.public))))
    contestants: list[tuple[str, str, Runner]] = [
        *(("fl-sim", attack, partial(ours, attack)) for attack in given.attacks.split(",")),
        ("breaching", "ing", partial(breaching, given.tv)),
    ]
    rows = []
    for model in given.model.split(","):
        for batch in given.batch:
            truths = images.private.tensor(range(batch))
            victim = common.victim(model, truths, CLASSES)
            problem = common.problem(victim, truths, prior=prior)
            for who, attack, run in contestants:
                about = {"model": model, "batch": batch, "who": who, "attack": attack}
                rows.append(about | row(run, problem, truths, given))
                if not given.json:
                    print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    common.json_line({"rows": rows, "target": given.target, "threads": used})


if __name__ == "__main__":
    main()
