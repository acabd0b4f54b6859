"""Weight deltas of several local steps: what each reading of them gains, and what it costs.

Run as ``python -m benchmarks local_steps --data pneumoniamnist.npz --steps 4,8``.
A client trains by SGD in float32, one step an image; the server has the weights before and after,
and does not know the order. Labels are recovered, not given. The last line is JSON
{"rows": [{model, attack, steps, lr, reading, psnr, psnr_worst, ssim, seconds, evaluations}],
"gains": [{model, attack, steps, reading, db, times}]}.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.attacks import create as create_attack
from adversary.metrics import match, psnr
from adversary.problem import Problem, pose
from adversary.readings import READINGS
from benchmarks import common
from fl_sim.models import create
from fl_sim.training import train

MODELS = {"lenet": ("lenet", "sigmoid"), "gelu": ("convnet", "gelu")}
OUTPUTS = 2


def problem(model: str, truths: Tensor, labels: Tensor, *, lr: float, batch: int) -> Problem:
    """Return what the server has of a client that trained on the images in their order."""
    name, activation = MODELS[model]
    size = truths.shape[-1]
    start = create(
        name,
        channels=1,
        image_size=size,
        outputs=OUTPUTS,
        activation=activation,
        seed=common.SEED,
    )
    recipe = TrainingRecipe(lr=lr, batch_size=batch, batch_norm="eval")
    trained = copy.deepcopy(start)
    train(trained, truths, labels, recipe, list(torch.arange(len(truths)).split(batch)),
          device="cpu")  # fmt: skip
    observation = Observation(
        round=1,
        client="client",
        sent=start.state_dict(),
        returned=trained.state_dict(),
        num_examples=len(truths),
        recipe=recipe,
    )
    return pose(observation, ThreatModel(), start, image_shape=(1, size, size))


def row(
    model: str, attack: str, options: dict[str, str], reading: str, posed: Problem, truths: Tensor
) -> dict[str, Any]:
    found = create_attack(attack, options, reading=reading).run(posed, seed=common.SEED)
    order = [index for index in match(found.images, truths) if index is not None]
    measured = common.scores(found.images[order], truths)
    return {
        "model": model,
        "attack": attack,
        "steps": posed.observation.steps,
        "lr": posed.observation.recipe.lr,
        "reading": reading,
        "psnr": measured["psnr"],
        "psnr_worst": float(psnr(found.images[order], truths).min()),
        "ssim": measured["ssim"],
        "seconds": found.seconds,
        "evaluations": found.evaluations,
    }


def gains(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each reading beside the one-gradient reading of the same update."""
    plain = {
        (r["model"], r["attack"], r["steps"]): r for r in rows if r["reading"] == "one-gradient"
    }
    return [
        {
            "model": r["model"],
            "attack": r["attack"],
            "steps": r["steps"],
            "reading": r["reading"],
            "db": r["psnr"] - plain[r["model"], r["attack"], r["steps"]]["psnr"],
            "times": r["seconds"] / plain[r["model"], r["attack"], r["steps"]]["seconds"],
        }
        for r in rows
        if r["reading"] != "one-gradient" and (r["model"], r["attack"], r["steps"]) in plain
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="npz of X-rays")
    parser.add_argument("--model", default="lenet,gelu", help="e.g. lenet,gelu")
    parser.add_argument("--steps", type=common.counts, default=[4, 8], help="e.g. 4,8")
    parser.add_argument("--batch", type=int, default=1, help="images a step")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--attack", default="dlg", help="a gradient-matching attack")
    parser.add_argument("--iterations", default="300")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    rows = []
    for model in given.model.split(","):
        for steps in given.steps:
            truths = common.images(given.data, steps * given.batch, given.size)
            labels = common.labels(given.data, len(truths))
            posed = problem(model, truths, labels, lr=given.lr, batch=given.batch)
            for reading in READINGS:
                options = {"iterations": given.iterations}
                rows.append(row(model, given.attack, options, reading, posed, truths))
                if not given.json:
                    print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    common.json_line({"rows": rows, "gains": gains(rows), "threads": used})


if __name__ == "__main__":
    main()
