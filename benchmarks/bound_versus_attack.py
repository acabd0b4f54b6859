"""What an attack reaches against what none is expected to exceed, over the noise on the gradient.

Run as ``python -m benchmarks bound_versus_attack --data pneumoniamnist.npz --json``. One image a
gradient, binary head at its first weights, labels given, normal noise of standard deviation
``s ||g|| / sqrt(m)`` on each of the m entries of the gradient, known to the attacker. The prior is
learned from the training split. The images are X-rays of the test split, drawn at random, or with
``--drawn`` drawn from that prior itself, which is the case that the theorem is about: what X-rays
show beyond it is how far the prior fits them. There the contrast is less (:data:`CONTRAST`), so
that no pixel leaves [0, 1].

All figures are of mean squared errors over the images, in dB. ``bound_psnr`` is the mean posterior
variance at the images, which the table of a run has; ``van_trees_psnr`` the inequality's bound,
from the images' mean information, and never the lower of the two. ``sampling_error`` is the
standard error of ``attack_psnr - bound_psnr``. The last line is JSON {"rows": [{model, noise,
prior_psnr, bound_psnr, van_trees_psnr, attack_psnr, sampling_error, images, seconds}]}.
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
from adversary.bounds import least_variance
from adversary.channel import Channel
from adversary.evaluation import Truth
from adversary.information import Information
from adversary.problem import Problem, pose
from adversary.seeding import generator
from benchmarks import common
from fl_sim.models import create

MODELS = {"lenet": ("lenet", "sigmoid"), "gelu": ("convnet", "gelu")}
TITLES = {"lenet": "LeNet (sigmoid)", "gelu": "ConvNet (GELU)"}
OUTPUTS = 2
TEST = 600
"""X-rays of the test split that images are drawn from."""

CONTRAST = 0.35
"""Of images that are drawn from the prior."""


def victim(name: str, size: int) -> nn.Module:
    """Return the model at its first weights."""
    architecture, activation = MODELS[name]
    return create(
        architecture,
        channels=1,
        image_size=size,
        outputs=OUTPUTS,
        activation=activation,
        seed=common.SEED,
    )


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


def xrays(given: argparse.Namespace) -> tuple[Prior, Tensor, Tensor]:
    """Return the public X-rays, and the images under attack with their labels."""
    public, _ = common.labelled(given.data, "train", given.public, given.size)
    if given.drawn:
        prior = Prior(0.5 + CONTRAST * (public - 0.5))
        draw = generator(common.SEED, "drawn")
        drawn = prior.gaussian.sample(given.images, generator=draw).float()
        return prior, drawn, torch.arange(given.images) % OUTPUTS
    images, labels = common.labelled(given.data, "test", TEST, given.size)
    chosen = torch.randperm(TEST, generator=generator(common.SEED, "test"))[: given.images]
    return Prior(public), images[chosen], labels[chosen]


def decibel(error: float) -> float:
    """Return a mean squared error as PSNR."""
    return -10 * math.log10(error)


def row(
    name: str, model: nn.Module, prior: Prior, images: Tensor, labels: Tensor, scale: float
) -> dict[str, Any]:
    """Return the figures of one model at one level of noise."""
    started = time.monotonic()
    bounds, attacks = [], []
    total = torch.zeros(prior.gaussian.size, prior.gaussian.size, dtype=torch.float64)
    for number, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
        problem = noisy_problem(model, prior, image, label, scale, number)
        truth = Truth(images=image, labels=label, names=(str(number),))
        information = Information(problem.to(torch.float64), truth, prior.gaussian).dense()
        total += information
        found = GaussNewton(start="mean").run(problem, seed=common.SEED)
        bounds.append(float(least_variance(information).mean()))
        attacks.append(float((found.images - image).square().mean()))
    reached, promised = torch.tensor(attacks), torch.tensor(bounds)
    spread = float((reached - promised).std()) / len(images) ** 0.5 / float(promised.mean())
    return {
        "model": name,
        "noise": scale,
        "prior_psnr": decibel(float((prior.mean - images).square().mean())),
        "bound_psnr": decibel(float(promised.mean())),
        "van_trees_psnr": decibel(float(least_variance(total / len(images)).mean())),
        "attack_psnr": decibel(float(reached.mean())),
        "sampling_error": 10 / math.log(10) * spread,
        "images": len(images),
        "seconds": time.monotonic() - started,
    }


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw PSNR over noise, a panel a model: the bound a line, the attack marks on it."""
    names = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(3.6 * len(names), 3), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        own = [row for row in rows if row["model"] == name]
        noise = [row["noise"] for row in own]
        axes.plot(noise, [row["bound_psnr"] for row in own], "k-", label="Bayesian bound")
        axes.errorbar(
            noise,
            [row["attack_psnr"] for row in own],
            [2 * row["sampling_error"] for row in own],
            fmt="o",
            color="#a31621",
            capsize=2,
            label="gauss-newton",
        )
        axes.plot(noise, [row["prior_psnr"] for row in own], "k:", label="mean public X-ray")
        axes.set(xscale="log", xlabel="noise / gradient (L2 norm)", title=TITLES[name])
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR, dB")
    panels[-1].legend(frameon=False)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="PneumoniaMNIST's npz")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--noise", default="1e-4,1e-3,1e-2,1e-1,1", help="relative to the gradient")
    parser.add_argument("--images", type=int, default=8, help="at most 600")
    parser.add_argument("--drawn", action="store_true", help="images drawn from the prior")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--public", type=int, default=4708, help="X-rays that the prior is of")
    parser.add_argument("--picture", type=Path, help="PNG of the curves to write")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    prior, images, labels = xrays(given)
    rows = []
    for name in given.model:
        model = victim(name, given.size)
        for scale in map(float, given.noise.split(",")):
            rows.append(row(name, model, prior, images, labels, scale))
            if not given.json:
                told = (f"{key} {value}" for key, value in rows[-1].items())
                print(", ".join(told), flush=True)
    if given.picture:
        draw_curves(rows, given.picture)
    common.json_line({"rows": rows, "threads": used, "torch": torch.__version__})


if __name__ == "__main__":
    main()
