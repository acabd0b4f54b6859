"""Gauss-Newton, or another attack, on one update: how exact the images come back, at what cost.

Run as ``python -m benchmarks exact_recovery --data pneumoniamnist_28.npz --model gelu --head binary
--batch 1,2``. The victim computes in float32; labels are recovered, not given. Victims are the
first training images, as many to an update as batch and steps ask for; the public X-rays of the
attacker's prior are the validation images. ``bound_psnr`` is the Bayesian Cramer-Rao bound at the
truth (:mod:`adversary.bounds`). The last line is JSON {"rows": [{model, head, batch, start, psnr,
psnr_worst, bound_psnr, ssim, steps, seconds, ...}]}, a row an update; ``--out`` keeps rows of
other settings that a file already has.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adversary import Observation, ThreatModel, TrainingRecipe, attacks
from adversary.bounds import Budget, bound
from adversary.evaluation import Truth
from adversary.metrics import match, psnr
from adversary.optimise import Limits
from adversary.priors import Prior
from adversary.problem import Problem, pose
from adversary.report.files import replacing
from adversary.seeding import derive_seed
from benchmarks import common
from fl_sim.models import create
from fl_sim.training import train

MODELS = {
    "lenet": ("lenet", "sigmoid"),
    "gelu": ("convnet", "gelu"),
    "silu": ("convnet", "silu"),
    "relu": ("convnet", "relu"),
    "sigmoid": ("convnet", "sigmoid"),
    "efficientnet-b0": ("efficientnet-b0", "silu"),
    "convnext-tiny": ("convnext-tiny", "gelu"),
    "resnet18": ("resnet18", "relu"),
    "densenet121": ("densenet121", "relu"),
    "resnet18-sigmoid": ("resnet18-sigmoid", "sigmoid"),
}
HEADS = {"binary": 2, "100": 100}
PUBLIC = 512
CLIENTS, CLIENT_IMAGES = 4, 64
BOUND_WORK = 5e12
SETTINGS = (
    "model", "head", "batch", "start", "prior", "labels", "local_steps", "trained_rounds", "size",
    "repeat", "attack", "batch_norm", "data",
)  # fmt: skip
"""What tells one row from another."""


def victim(model: str, head: str, truths: Tensor, seed: int) -> nn.Module:
    name, activation = MODELS[model]
    return create(
        name,
        channels=truths.shape[1],
        image_size=truths.shape[-1],
        outputs=HEADS[head],
        activation=activation,
        seed=seed,
    )


def federate(model: nn.Module, images: Tensor, labels: Tensor, rounds: int) -> None:
    """Train by federated averaging: in every round each client passes once over its images."""
    recipe = TrainingRecipe(lr=0.05, batch_size=8, momentum=0.9, batch_norm="eval")
    shares = torch.arange(len(images)).chunk(CLIENTS)
    for _ in range(rounds):
        sent = {n: v.clone() for n, v in model.state_dict().items()}
        returned = []
        for share in shares:
            model.load_state_dict(sent)
            batches = list(share.split(recipe.batch_size))
            train(model, images, labels, recipe, batches, device="cpu")
            returned.append({n: v.clone() for n, v in model.state_dict().items()})
        mean = {n: torch.stack([r[n].double() for r in returned]).mean(0) for n in sent}
        model.load_state_dict({n: v.to(sent[n].dtype) for n, v in mean.items()})


def observe(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch: int,
    lr: float,
    batch_norm: Literal["eval", "train"],
) -> Observation:
    """Return the gradient of one batch or, of several, the weights after a step on each."""
    steps = len(images) // batch
    recipe = TrainingRecipe(
        lr=lr,
        batch_size=batch,
        batch_norm=batch_norm,
        update="gradient" if steps == 1 else "weights",
    )
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    if steps == 1:
        model.train(batch_norm == "train")
        loss = nn.functional.cross_entropy(model(images), labels)
        names, parameters = zip(*model.named_parameters(), strict=True)
        returned = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    else:
        train(
            model,
            images,
            labels,
            recipe,
            list(torch.arange(len(images)).split(batch)),
            device="cpu",
        )
        returned = {n: v.clone() for n, v in model.state_dict().items()}
        model.load_state_dict(sent)
    return Observation(
        round=1,
        client="client",
        sent=sent,
        returned=returned,
        num_examples=len(images),
        recipe=recipe,
    )


def posed(given: argparse.Namespace, batch: int, repeat: int) -> tuple[Problem, Truth]:
    """Return one attacker's problem, and the truth."""
    seed = derive_seed(common.SEED, "victim", repeat)
    count = batch * given.steps
    others = CLIENTS * CLIENT_IMAGES
    every, found = common.labelled(given.data, "train", others + (repeat + 1) * count, given.size)
    public, _ = common.labelled(given.data, "val", PUBLIC, given.size)
    truths, labels = every[others + repeat * count :], found[others + repeat * count :]
    if given.labels == "distinct":
        labels = torch.arange(count) % HEADS[given.head]
    model = victim(given.model, given.head, truths, seed)
    federate(model, every[:others], found[:others], given.trained)
    seen = observe(model, truths, labels, batch, given.lr, given.batch_norm)
    shape = (truths.shape[1], truths.shape[2], truths.shape[3])
    truth = Truth(images=truths, labels=labels, names=tuple(map(str, range(count))))
    return pose(seen, ThreatModel(), model, image_shape=shape, prior=Prior(public)), truth


def bounded(given: argparse.Namespace, problem: Problem, truth: Truth) -> dict[str, Any]:
    """Return the Bayesian bound, with its standard error where it is estimated."""
    if given.bounds == "off" or problem.prior is None:
        return {}
    budget = Budget(method=given.bounds, work=BOUND_WORK)
    least = bound(problem, truth, problem.prior.gaussian, budget=budget)
    return {
        "bound_psnr": float(least.psnr.mean()),
        "bound_worst": float(least.psnr.min()),
        "bound_error": float(least.error.max()),
        "bound_converged": least.converged,
    }


def row(given: argparse.Namespace, batch: int, repeat: int) -> dict[str, Any]:
    problem, truth = posed(given, batch, repeat)
    options = {"iterations": given.iterations, "start": given.start, "prior": given.prior}
    attack = attacks.create(given.attack, dict(given.options), **options)
    before = time.process_time()
    found = attack.run(problem, seed=repeat, limits=Limits(seconds=given.seconds))
    spent = time.process_time() - before
    order = [index for index in match(found.images, truth.images) if index is not None]
    each = psnr(found.images[order], truth.images)
    return {
        "model": given.model,
        "head": given.head,
        "batch": batch,
        "start": given.start,
        "psnr": float(each.mean()),
        "psnr_worst": float(each.min()),
        **bounded(given, problem, truth),
        "ssim": common.scores(found.images[order], truth.images)["ssim"],
        "labels_right": bool((found.labels[order] == truth.labels).all()),
        "chi_square": found.score,
        "steps": len(found.history) - 1,
        "seconds": found.seconds,
        "cpu_seconds": spent,
        "prior": given.prior,
        "labels": given.labels,
        "local_steps": given.steps,
        "trained_rounds": given.trained,
        "size": given.size,
        "repeat": repeat,
        "attack": given.attack,
        "batch_norm": given.batch_norm,
        "data": given.data.name,
        "evaluations": found.evaluations,
        "stopped": found.stopped,
    }


def option(text: str) -> tuple[str, str]:
    """Return the name and value of an attack's own option."""
    name, _, value = text.partition("=")
    return name, value


def rounded(value: Any) -> Any:
    """Return numbers to six digits, and anything else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def cut(found: dict[str, Any]) -> bool:
    """Whether a row's attack was ended by its time limit."""
    return bool(found.get("stopped") == "seconds")


def keep(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows to a JSON file, in the place of those of the same settings.

    A row that a time limit ended takes no place of a whole one.
    """
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    every: dict[tuple[Any, ...], dict[str, Any]] = {}
    for found in [*before, *rows]:
        key = tuple(found[name] for name in SETTINGS)
        if not (cut(found) and key in every and not cut(every[key])):
            every[key] = found
    kept = [{name: rounded(v) for name, v in every[key].items()} for key in sorted(every, key=str)]
    lines = ",\n".join(map(json.dumps, kept))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(f'{{"rows": [\n{lines}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="npz with train and val images, or Kermany's zip file",
    )
    parser.add_argument("--model", choices=MODELS, default="gelu")
    parser.add_argument("--attack", choices=sorted(attacks.ATTACKS), default="gauss-newton")
    parser.add_argument("--options", type=option, nargs="*", default=[], help="e.g. lr=0.03")
    parser.add_argument("--head", choices=HEADS, default="binary")
    parser.add_argument("--batch", type=common.counts, default=[1], help="e.g. 1,2,4")
    parser.add_argument("--start", choices=("grey", "mean", "randn", "encodings"), default="grey")
    parser.add_argument("--prior", choices=("public", "smooth", "none"), default="public")
    parser.add_argument("--labels", choices=("distinct", "own"), default="distinct")
    parser.add_argument("--steps", type=int, default=1, help="local SGD steps of a client")
    parser.add_argument("--lr", type=float, default=0.1, help="of the local steps")
    parser.add_argument("--trained", type=int, default=0, help="rounds trained on other images")
    parser.add_argument("--batch-norm", choices=("eval", "train"), default="eval")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--repeats", type=int, default=1, help="updates, each of other images")
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--seconds", type=float, help="time limit of each attack")
    parser.add_argument("--bounds", choices=("off", "auto", "dense", "stochastic"), default="auto")
    parser.add_argument("--out", type=Path, help="JSON file to keep the rows in")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    rows = []
    for batch in given.batch:
        for repeat in range(given.repeats):
            rows.append(row(given, batch, repeat))
            if not given.json:
                print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if given.out:
                keep(rows, given.out)
    common.json_line({"rows": rows, "threads": used, "torch": torch.__version__})


if __name__ == "__main__":
    main()
