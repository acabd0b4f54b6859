"""Inverting Gradients here and in the breaching package, on the same update and settings.

Run as ``python -m benchmarks versus_breaching --json``, with breaching installed (the extra
``bench``). Both get the float32 gradient of embedded X-rays at initial weights, the labels, the
same starts, model, learning rate, box and weight of the total variation, and take the same number
of steps. Signed steps make one start a matter of luck, by several dB, so PSNR and SSIM are means
over the starts; times are medians, both having run in turn. The last line is JSON {"rows": [{who,
model, batch, iterations, starts, psnr, ssim, seconds, evaluations_per_second}], "threads"}.

Two departures from breaching as it comes: its total variation is set to one channel (it assumes
three), and it works on images in [0, 1], as the models here normalise inside.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from adversary.attacks import ING
from adversary.problem import Problem
from benchmarks import common
from fl_sim import data

CLASSES = 2
WARM_UP = 3


@dataclass(frozen=True)
class Result:
    """What an attack found, how often it worked out a gradient, and how long it took."""

    images: Tensor
    evaluations: int
    seconds: float


def ours(problem: Problem, iterations: int, tv: float, seed: int) -> Result:
    found = ING(iterations=iterations, tv=tv).run(problem, seed=seed)
    return Result(found.images, found.evaluations, found.seconds)


def theirs(problem: Problem, iterations: int, tv: float, seed: int) -> Result:
    attacker = _attacker(problem, iterations, tv)
    start = ING(iterations=1).variables(problem, [seed])["images"][0]
    labels = problem.threat.labels
    about = {"num_data_points": len(labels), "labels": labels, "local_hyperparams": None}
    sent = {
        "parameters": list(problem.model.parameters()),
        "buffers": list(problem.model.buffers()),
        "metadata": _Metadata(tuple(problem.shape[1:])),
    }
    shared = {"gradients": list(problem.gradient.values()), "buffers": None, "metadata": about}
    began = time.monotonic()
    found, _ = attacker.reconstruct([sent], [shared], {}, initial_data=start)
    seconds = time.monotonic() - began
    # Its candidate is scored once more when all steps are done.
    return Result(found["data"].detach().float(), iterations + 1, seconds)


@dataclass(frozen=True)
class _Metadata:
    """What breaching's server says of its images; no mean: they are in [0, 1]."""

    shape: tuple[int, ...]
    modality: str = "vision"
    classes: int = CLASSES


def _attacker(problem: Problem, iterations: int, tv: float) -> Any:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            import breaching

            config = breaching.get_attack_config("invertinggradients")
    except ImportError as error:
        raise SystemExit(f"breaching is not there ({error}): pip install 'fl-sim[bench]'") from None
    config.optim.max_iterations = iterations
    config.optim.callback = iterations
    config.regularization.total_variation.scale = tv
    loss = torch.nn.CrossEntropyLoss()
    model = problem.model.requires_grad_(True)
    attacker = breaching.attacks.prepare_attack(model, loss, config)
    model.requires_grad_(False)
    channels = problem.shape[1]
    for regulariser in attacker.regularizers:
        regulariser.groups = channels
        regulariser.weight = regulariser.weight[: 2 * channels]
    return attacker


WHO: dict[str, Callable[[Problem, int, float, int], Result]] = {"fl-sim": ours, "breaching": theirs}


def rows(model: str, truths: Tensor, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run both in turn, so that both meet the same load of the machine."""
    victim = common.victim(model, truths, CLASSES)
    posed = common.problem(victim, truths)
    runs: dict[str, list[Result]] = {who: [] for who in WHO}
    for attack in WHO.values():
        attack(posed, WARM_UP, given.tv, 0)
    for start in range(given.starts):
        for who, attack in WHO.items():
            runs[who].append(attack(posed, given.iterations, given.tv, start))
    return [row(who, model, results, truths, given.iterations) for who, results in runs.items()]


def row(
    who: str, model: str, results: list[Result], truths: Tensor, iterations: int
) -> dict[str, Any]:
    measured = [common.scores(r.images, truths) for r in results]
    return {
        "who": who,
        "model": model,
        "batch": len(truths),
        "iterations": iterations,
        "starts": len(results),
        "psnr": mean(m["psnr"] for m in measured),
        "ssim": mean(m["ssim"] for m in measured),
        "seconds": median(r.seconds for r in results),
        "evaluations_per_second": median(r.evaluations / r.seconds for r in results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet,convnet,resnet18", help="e.g. lenet,convnet")
    parser.add_argument("--batch", type=common.counts, default=[1], help="e.g. 1,4")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--tv", type=float, default=1e-2, help="weight of the total variation")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--starts", type=int, default=8, help="starts to run each from")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    xrays = data.load("embedded", image_size=given.size).private
    found = []
    for model in given.model.split(","):
        for batch in given.batch:
            found += rows(model, xrays.tensor(range(batch)), given)
            if not given.json:
                for one in found[-2:]:
                    print(", ".join(f"{k} {v}" for k, v in one.items()), flush=True)
    common.json_line({"rows": found, "threads": used})


if __name__ == "__main__":
    main()
