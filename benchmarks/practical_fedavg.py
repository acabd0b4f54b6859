"""Practical FedAvg: local epochs, batch, and what the server knows, against pictures and names.

Run as ``python -m benchmarks practical_fedavg --quick`` (four updates), or without ``--quick`` for
the table of Guo et al., TPAMI 2026 (arXiv 2503.11514), on X-rays: local epochs 1, 2, 5 x batch 1,
8, 16 x what the server knows. A client goes through its X-rays once an epoch, in an order that the
server does not know; labels are recovered. What it knows:

``recipe``: all of the recipe; ``wrong``: twice the learning rate and twice the batch; ``nothing``:
it takes the update for one step on all X-rays, at the learning rate at which the gradient would
have norm 1 (Guo et al.'s attack without simulation).

``null_psnr`` and ``null_rdlv`` are what the same pictures score for X-rays that had no part in the
update. Each row is added to the file of ``--out`` as it comes, and the same command goes on where
it was stopped; docs/results/practical-fedavg.md is made of the file in benchmarks/results. The last
line is JSON {"rows": [{network, attack, images, epochs, batch, knows, steps, lr,
seed, size, psnr, psnr_best, null_psnr, prior_psnr, rdlv, null_rdlv, reidentified, certificate,
member, stopped, auc, tpr_1, named, seconds}]}; ``seconds`` is processor time.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adversary import Adversary, Limits, Observation, Prior, ThreatModel, TrainingRecipe
from adversary.attacks import create as create_attack
from adversary.common.errors import one_line_error
from adversary.common.seeding import generator
from adversary.common.truth import Truth
from adversary.identification import Gallery, identify
from adversary.scoring.image_scores import ImageScore, score_images
from benchmarks import common
from benchmarks.identification import row as identification_row
from fl_sim.data.dataset import Splits, XrayDataset
from fl_sim.data.loading import load
from fl_sim.models import Classifier, create
from fl_sim.training.local_training import minibatches, train

EPOCHS, BATCHES = (1, 2, 5), (1, 8, 16)
QUICK_EPOCHS, QUICK_BATCHES = (1,), (8, 16)
OUTPUTS = 2

ROWS = Path(__file__).parent / "results" / "practical_fedavg.jsonl"

Guess = Callable[[Observation], TrainingRecipe]


def _whole(observation: Observation) -> TrainingRecipe:
    return observation.recipe


def _wrong(observation: Observation) -> TrainingRecipe:
    recipe = observation.recipe
    return dataclasses.replace(recipe, lr=2 * recipe.lr, batch_size=2 * recipe.batch_size)


def _nothing(observation: Observation) -> TrainingRecipe:
    """Return one step on everything, at a rate at which the gradient would have norm 1."""
    moved = [
        (value.double() - observation.sent[name].double()).square().sum()
        for name, value in observation.returned.items()
        if value.is_floating_point()
    ]
    norm = float(torch.stack(moved).sum().sqrt())
    return TrainingRecipe(lr=norm or 1.0, batch_size=observation.num_examples)


KNOWLEDGE: dict[str, Guess] = {"recipe": _whole, "wrong": _wrong, "nothing": _nothing}
"""What the server takes the recipe to be."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One update, and what the server knows of it."""

    network: str
    images: int
    epochs: int
    batch: int
    lr: float
    knows: str
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A client's X-rays, others', and the model at its first weights."""

    splits: Splits
    model: Classifier
    own: list[int]
    others: list[int]

    @property
    def public(self) -> Prior:
        """Public X-rays with their labels."""
        return Prior(_all(self.splits.public), self.splits.public.labels)


def place(setting: Setting, size: int) -> Place:
    """Return the X-rays that come with the project, dealt out by the seed."""
    splits = load("sample", image_size=size, channels=1, seed=setting.seed)
    order = torch.randperm(len(splits.private), generator=generator(setting.seed, "deal"))
    model = create(
        setting.network, channels=1, image_size=size, outputs=OUTPUTS, activation="gelu",
        seed=setting.seed,
    )  # fmt: skip
    own, others = order[: setting.images], order[setting.images : 2 * setting.images + 64]
    return Place(splits=splits, model=model, own=own.tolist(), others=others.tolist())


def update(setting: Setting, where: Place) -> Observation:
    """Return the update of a client that trains for the setting's epochs."""
    recipe = TrainingRecipe(lr=setting.lr, batch_size=setting.batch, local_epochs=setting.epochs)
    private, trained = where.splits.private, copy.deepcopy(where.model)
    batches = minibatches(setting.images, recipe, seed=setting.seed, round=1, client=0)
    images, labels = private.tensor(where.own), private.labels[where.own]
    train(trained, images, labels, recipe, batches, device=torch.device("cpu"))
    return Observation(
        round=1,
        client="client",
        sent=_copied(where.model),
        returned=_copied(trained),
        num_examples=setting.images,
        recipe=recipe,
    )


def row(setting: Setting, size: int, attack: str, seconds: float) -> dict[str, Any]:
    """Return the figures of one update."""
    where = place(setting, size)
    seen = update(setting, where)
    guessed = dataclasses.replace(seen, recipe=KNOWLEDGE[setting.knows](seen))
    began = time.process_time()
    about = dataclasses.asdict(setting) | {"attack": attack, "steps": seen.steps, "size": size}
    figures = _pictures(guessed, where, attack, seconds) | _names(guessed, where, setting.seed)
    return about | figures | {"seconds": time.process_time() - began}


def _pictures(
    observation: Observation, where: Place, attack: str, seconds: float
) -> dict[str, Any]:
    """Return what an attack's pictures score beside the client's X-rays and beside others."""
    private = where.splits.private
    images = private.tensor(where.own)
    effort = {"effort": "quick"} if attack == "standard" else {}
    adversary = Adversary(
        where.model,
        image_shape=tuple(images.shape[1:]),  # type: ignore[arg-type]
        attacks=[create_attack(attack, effort)],
        prior=where.public,
        limits=Limits(seconds=seconds or None),
    )
    [result] = adversary.run_attacks(observation, ThreatModel())
    found = result.reconstruction
    if found is None:
        return {"failure": result.failure}
    truth = Truth(images=images, labels=private.labels[where.own], names=tuple(map(str, where.own)))
    candidates = private.tensor(where.own + where.others)
    scores = score_images(found, truth, prior=where.public, candidates=candidates)
    return _means(scores) | {
        "certificate": found.certificate,
        "member": found.member,
        "stopped": found.stopped,
    }


def _means(scores: list[ImageScore]) -> dict[str, Any]:
    """Return the mean of each figure over the images that have one, and the best PSNR."""

    def known(name: str) -> list[float]:
        values = (getattr(score, name) for score in scores)
        return [float(v) for v in values if v is not None and math.isfinite(v)]

    names = ("psnr", "null_psnr", "prior_psnr", "rdlv", "null_rdlv", "reidentified")
    means = {name: sum(v) / len(v) if (v := known(name)) else None for name in names}
    return means | {"psnr_best": max(known("psnr"), default=None)}


def _names(observation: Observation, where: Place, seed: int) -> dict[str, Any]:
    """Return how well the client's X-rays are told from as many others'."""
    private = where.splits.private
    asked = where.own + where.others[: len(where.own)]
    gallery = Gallery(
        images=private.tensor(asked), labels=private.labels[asked], names=tuple(map(str, asked))
    )
    try:
        found = identify(observation, ThreatModel(), where.model, gallery, where.public, seed=seed)
    except ValueError as error:
        return {"auc": None, "unidentified": one_line_error(error)}
    return identification_row(found.scores, len(where.own))


def settings(given: argparse.Namespace) -> Iterator[Setting]:
    """Yield the settings that were asked for."""
    for seed in range(1, given.seeds + 1):
        for epochs in QUICK_EPOCHS if given.quick else EPOCHS:
            for batch in QUICK_BATCHES if given.quick else BATCHES:
                for knows in ("recipe", "nothing") if given.quick else KNOWLEDGE:
                    yield Setting(
                        network=given.network, images=given.images, epochs=epochs, batch=batch,
                        lr=given.lr, knows=knows, seed=seed,
                    )  # fmt: skip


def _key(line: Mapping[str, Any]) -> str:
    """Return what tells a row from all others."""
    names = [*(field.name for field in dataclasses.fields(Setting)), "attack", "size"]
    return json.dumps({name: line[name] for name in names}, sort_keys=True)


def _all(images: XrayDataset) -> torch.Tensor:
    return images.tensor(range(len(images)))


def _copied(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four updates, a few minutes")
    parser.add_argument("--network", default="convnet")
    parser.add_argument("--attack", default="standard", help="standard at quick effort, ing, ...")
    parser.add_argument("--images", type=int, default=16, help="X-rays of the client")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seconds", type=float, default=60.0, help="for an attack; 0 is no limit")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROWS, help="file of finished updates")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    used = common.threads()
    done = {_key(line) for line in common.read_rows(given.out)}
    for setting in settings(given):
        key = dataclasses.asdict(setting) | {"attack": given.attack, "size": given.size}
        if _key(key) in done:
            continue
        found = row(setting, given.size, given.attack, given.seconds)
        common.append_row(given.out, found)
        if not given.json:
            print(", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
    rows = common.read_rows(given.out)
    common.json_line({"rows": rows, "threads": used})


if __name__ == "__main__":
    main()
