"""What an attack reaches against what none can exceed, over the noise on the gradient.

Run as ``python -m benchmarks.bound_versus_attack --data pneumoniamnist.npz --json``. One X-ray of
the test split a gradient, GELU ConvNet with a binary head at its first weights, labels given,
normal noise of standard deviation ``s ||g|| / sqrt(m)`` on each of the m entries of the gradient.
The prior is learned from the training split. All figures are mean squared errors over the images,
in dB: the Bayesian bound is one on that mean. The last line is JSON {"rows": [{noise, prior_psnr,
bound_psnr, bound_error, attack_psnr, images, seconds}]}.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from adversary import Observation, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import GaussNewton
from adversary.bounds import Budget, bound
from adversary.channel import Channel
from adversary.evaluation import Truth
from adversary.problem import Problem, pose
from adversary.seeding import generator
from benchmarks import common
from fl_sim.models import create

BUDGET = Budget(method="stochastic", probes=16)


def noisy_problem(
    model: nn.Module, prior: Prior, image: Tensor, label: Tensor, scale: float, number: int
) -> Problem:
    """Return what the server has: the gradient of one image with noise of a known level."""
    loss = nn.functional.cross_entropy(model(image), label)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    entries = sum(g.numel() for g in gradient)
    sigma = scale * math.sqrt(sum(float(g.square().sum()) for g in gradient) / entries)
    draw = generator(common.SEED, "noise", str(scale), number)
    returned = {
        name: g + sigma * torch.randn(g.shape, generator=draw)
        for (name, _), g in zip(model.named_parameters(), gradient, strict=True)
    }
    observation = Observation(
        round=1,
        client=f"client-{number:02d}",
        sent=model.state_dict(),
        returned=returned,
        num_examples=1,
        recipe=TrainingRecipe(lr=1.0, batch_size=1, update="gradient"),
    )
    return pose(
        observation,
        ThreatModel(labels=label, channel=Channel(noise=dict.fromkeys(returned, sigma))),
        model,
        image_shape=(image.shape[1], image.shape[2], image.shape[3]),
        prior=prior,
    )


def decibel(errors: list[float]) -> float:
    """Return a mean squared error as PSNR."""
    return -10 * math.log10(sum(errors) / len(errors))


def row(
    model: nn.Module, prior: Prior, images: Tensor, labels: Tensor, scale: float
) -> dict[str, Any]:
    """Return the figures at one level of noise."""
    started = time.monotonic()
    errors: dict[str, list[float]] = {"prior": [], "bound": [], "attack": []}
    uncertainty = []
    for number, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
        problem = noisy_problem(model, prior, image, label, scale, number)
        truth = Truth(images=image, labels=label, names=(str(number),))
        least = bound(problem, truth, prior.gaussian, budget=BUDGET)
        found = GaussNewton(start="mean").run(problem, seed=common.SEED)
        errors["prior"].append(float((prior.mean - image).square().mean()))
        errors["bound"].append(float(least.variance.mean()))
        errors["attack"].append(float((found.images - image).square().mean()))
        uncertainty.append(float(least.error))
    return {
        "noise": scale,
        **{f"{name}_psnr": decibel(found) for name, found in errors.items()},
        "bound_error": max(uncertainty),
        "images": len(images),
        "seconds": time.monotonic() - started,
    }


def draw_curve(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw PSNR over noise: the bound a line, the attack marks on it."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    noise = [row["noise"] for row in rows]
    axes.plot(noise, [row["bound_psnr"] for row in rows], "k-", label="Bayesian Cramér-Rao bound")
    axes.plot(noise, [row["attack_psnr"] for row in rows], "o", color="#a31621",
              label="gauss-newton")  # fmt: skip
    axes.plot(noise, [row["prior_psnr"] for row in rows], "k:", label="mean public X-ray")
    axes.set(xscale="log", xlabel="noise / gradient (L2 norm)", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="PneumoniaMNIST's npz")
    parser.add_argument("--noise", default="1e-4,1e-3,1e-2,1e-1,1", help="relative to the gradient")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--public", type=int, default=4708, help="X-rays that the prior is of")
    parser.add_argument("--picture", type=Path, help="PNG of the curve to write")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    public, _ = common.labelled(given.data, "train", given.public, given.size)
    images, labels = common.labelled(given.data, "test", given.images, given.size)
    model = create(
        "convnet",
        channels=1,
        image_size=given.size,
        outputs=2,
        activation="gelu",
        seed=common.SEED,
    )
    prior, rows = Prior(public), []
    for scale in map(float, given.noise.split(",")):
        rows.append(row(model, prior, images, labels, scale))
        if not given.json:
            print(", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    if given.picture:
        draw_curve(rows, given.picture)
    common.json_line({"rows": rows, "threads": used, "torch": torch.__version__})


if __name__ == "__main__":
    main()
