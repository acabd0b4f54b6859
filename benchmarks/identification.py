"""Who was in an update: how well candidates are told from others, setting by setting.

Run as ``python -m benchmarks.identification --data images.zip --case federation --json``. Hospitals
train as :mod:`fl_sim.training.local_training` lets them, in plain code; the attacker has the
updates, public X-rays, and a gallery of the members and as many others, one X-ray a patient.
``null`` rows have the update of as many other patients in place of the members'. The last line is
JSON {"rows": [...]}: {case, network, norm, data, defence, images, steps, round, joined, seed, auc,
tpr_1, tpr_1_low, tpr_1_high, named, ceiling, seconds}; ``seconds`` is processor time of one update.
Each row is added to the file of ``--out`` as it comes, and the same command goes on where it was
stopped; docs/results/identification.md is made of the file in benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from adversary import Observation, ThreatModel, TrainingRecipe
from adversary.common.files import atomic_write
from adversary.common.seeding import derive_seed, generator
from adversary.common.types import StateDict
from adversary.identification import (
    Gallery,
    Identification,
    ceilings,
    figures,
    identify,
    membership,
)
from adversary.identification.joining import joined
from adversary.identification.likelihood_ratio import clipped_rows, log_ratios
from adversary.identification.null import Scores, named, p_values
from adversary.identification.per_example import blocks, parts
from adversary.priors.public import Prior
from benchmarks import common
from benchmarks.tables.rows import read
from fl_sim.models import create
from fl_sim.training.local_training import minibatches, train

DELTA = 1e-5
"""Of the guarantees that are tested."""

EPSILONS, FALSE_ALARMS = (1.0, 3.0, 8.0), (0.01, 0.1)
"""Of these guarantees, and at which the power of a test is stated."""

ROWS = Path(__file__).parent / "results" / "identification.jsonl"

PUBLIC = 700
"""Public X-rays; of other patients than all candidates."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Hospitals, and how they train.

    Parameters
    ----------
    network, norm, activation : str
        The model.
    size : int
        Pixels a side.
    hospitals : tuple of int
        X-rays of each; those of one are not attacked.
    batch, lr, momentum, epochs
        Of the local training.
    elsewhere : int
        Steps of training on yet other patients before the first round.
    rounds : int
        Of federated averaging.
    """

    network: str = "convnet"
    norm: str = "none"
    activation: str = "gelu"
    size: int = 64
    hospitals: tuple[int, ...] = (64,)
    batch: int = 8
    lr: float = 0.05
    momentum: float = 0.0
    epochs: int = 1
    elsewhere: int = 0
    rounds: int = 1

    def recipe(self, images: int) -> TrainingRecipe:
        """Return what a hospital with so many X-rays is prescribed."""
        return TrainingRecipe(
            lr=self.lr,
            batch_size=min(self.batch, images),
            momentum=self.momentum,
            local_epochs=self.epochs,
        )


_RELU = {"activation": "relu", "size": 32, "batch": 16, "lr": 0.01, "elsewhere": 200}
_RESNET = {"network": "resnet18", "norm": "batch", "lr": 0.02, "momentum": 0.9}
_DENSENET = _RESNET | {"network": "densenet121"}

CASES: dict[str, Case] = {
    "federation": Case(hospitals=(1, 16, 100, 283), rounds=6),
    "64 X-rays": Case(**_RELU, hospitals=(64,)),
    "256 X-rays": Case(**_RELU, hospitals=(256,)),
    "600 X-rays": Case(**_RELU, hospitals=(600,)),
    "five epochs": Case(**_RELU, hospitals=(256,), epochs=5),
    "ResNet18, 16": Case(**_RESNET, hospitals=(16,), elsewhere=300),
    "ResNet18, 64": Case(**_RESNET, hospitals=(64,), elsewhere=300),
    "ResNet18, 200": Case(**_RESNET, hospitals=(200,), batch=16, elsewhere=300),
    "DenseNet121, 16": Case(**_DENSENET, hospitals=(16,), elsewhere=100),
    "DenseNet121, 64": Case(**_DENSENET, hospitals=(64,), elsewhere=100),
}
"""By name."""


PRIVATE = "DP-SGD"
"""The case of one private step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """X-rays of different patients, dealt out by a seed."""

    images: Tensor
    labels: Tensor
    members: list[Tensor]
    others: Tensor
    public: Tensor
    elsewhere: Tensor
    substitutes: Tensor


def deal(images: Tensor, labels: Tensor, case: Case, seed: int) -> Data:
    """Deal X-rays out: members, as many others, public ones, substitutes for the null."""
    most = max(case.hospitals)
    wanted = [*case.hospitals, most, most, PUBLIC]
    order = torch.randperm(len(images), generator=generator(seed, "deal"))
    if (rest := len(images) - sum(wanted)) < 0:
        raise SystemExit(f"--data: {len(images)} patients; must be at least {sum(wanted)}")
    *members, others, substitutes, public, elsewhere = order.split([*wanted, rest])
    return Data(
        images=images,
        labels=labels,
        members=members,
        others=others,
        public=public,
        elsewhere=elsewhere[:1000],
        substitutes=substitutes,
    )


def one_a_patient(path: Path, size: int) -> tuple[Tensor, Tensor]:
    """Return X-rays, of Kermany's set one of each patient, and labels."""
    if path.suffix == ".zip":
        from fl_sim.data.sources.base import DatasetRequest
        from fl_sim.data.sources.kermany import source

        found = source(
            DatasetRequest(
                name="kermany",
                path=str(path),
                image_size=size,
                channels=1,
                num_images=0,
                public=0,
                test_fraction=0.0,
                seed=common.SEED,
            )
        )
        first = {patient: place for place, patient in reversed(list(enumerate(found.patients)))}
        taken = found.take(sorted(first.values()))
        return taken.images.float() / 255, taken.labels
    return common.labelled(path, "train", 4700, size)


class Federation:
    """Hospitals that train, and what the server has sent and received."""

    def __init__(self, case: Case, data: Data, seed: int) -> None:
        self.case, self.data, self.seed = case, data, seed
        self.model = create(
            case.network,
            channels=1,
            image_size=case.size,
            outputs=2,
            activation=case.activation,
            seed=seed,
        )
        if case.elsewhere:
            spare, recipe = data.elsewhere, TrainingRecipe(lr=0.02, batch_size=16, local_epochs=99)
            steps = minibatches(len(spare), recipe, seed=seed, round=0, client=0)[: case.elsewhere]
            train(self.model, data.images[spare], data.labels[spare], recipe, steps, device="cpu")
        self.sent = self._state()

    def _state(self) -> StateDict:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def update(self, round: int, hospital: int, images: Tensor) -> Observation:
        """Return the update of a hospital that trains on these X-rays."""
        recipe = self.case.recipe(len(images))
        self.model.load_state_dict(self.sent)
        steps = minibatches(len(images), recipe, seed=self.seed, round=round, client=hospital)
        x, y = self.data.images[images], self.data.labels[images]
        train(self.model, x, y, recipe, steps, device="cpu")
        return Observation(
            round=round,
            client=f"client-{hospital:02d}",
            sent=self.sent,
            returned=self._state(),
            num_examples=len(images),
            recipe=recipe,
        )

    def average(self, updates: list[Observation]) -> None:
        """Go on from the mean of updates, weighted by X-rays."""
        total = sum(one.num_examples for one in updates)
        self.sent = {
            name: sum(one.returned[name].double() * one.num_examples for one in updates)
            .div(total)
            .to(value.dtype)
            for name, value in self.sent.items()
        }


def attacked(federation: Federation, observation: Observation, members: Tensor) -> Identification:
    """Return what the update says of members and as many others."""
    data = federation.data
    asked = torch.cat([members, data.others[: len(members)]])
    return identify(
        observation,
        ThreatModel(),
        federation.model,
        Gallery(
            images=data.images[asked],
            labels=data.labels[asked],
            names=tuple(map(str, asked.tolist())),
        ),
        Prior(data.images[data.public], data.labels[data.public]),
        seed=derive_seed(federation.seed, "attack"),
    )


def row(scores: Scores, members: int) -> dict[str, Any]:
    """Return the figures of scores, of which the first are members'."""
    rate = min(0.5, members / len(scores))
    ratios = membership.gallery_log_ratios(scores.values, scores.expected, rate)
    inside, outside = ratios[:members], ratios[members:]
    power = figures.power(inside, outside, 0.01)
    assert power is not None
    return {
        "auc": figures.auc(inside, outside),
        "tpr_1": power.rate,
        "tpr_1_low": power.low,
        "tpr_1_high": power.high,
        "named": float(named(p_values(scores.values, len(scores.null)))[:members].double().mean()),
        "ceiling": None,
    }


def rows(
    name: str, path: Path, seed: int, rounds: int, *, substituted: bool
) -> Iterator[dict[str, Any]]:
    """Yield a row an update, and one for all rounds of a hospital so far."""
    case = CASES[name]
    federation = Federation(case, deal(*one_a_patient(path, case.size), case, seed), seed)
    so_far: dict[int, list[Scores]] = {}
    for round in range(1, min(rounds or case.rounds, case.rounds) + 1):
        updates = [
            federation.update(round, hospital, own)
            for hospital, own in enumerate(federation.data.members)
        ]
        for hospital, seen in enumerate(updates):
            members = federation.data.members[hospital]
            if len(members) < 2:
                continue
            if substituted:
                others = federation.data.substitutes[: len(members)]
                seen = federation.update(round, hospital, others)
            began = time.process_time()
            found = attacked(federation, seen, members)
            about = {
                "case": name + (", null" if substituted else ""),
                "network": case.network,
                "norm": case.norm,
                "data": f"{path.stem} {case.size}x{case.size}",
                "defence": "none",
                "images": len(members),
                "steps": seen.steps,
                "round": round,
                "seed": seed,
                "seconds": time.process_time() - began,
            }
            so_far.setdefault(hospital, []).append(found.scores)
            yield about | {"joined": False} | row(found.scores, len(members))
            if round > 1:
                rate = min(0.5, len(members) / len(found.scores))
                together = joined(so_far[hospital], rate)
                yield about | {"joined": True} | row(together, len(members))
        federation.average(updates)


def private(path: Path, seed: int, repeats: int = 50_000) -> Iterator[dict[str, Any]]:
    """Yield the power of the likelihood-ratio test on one DP-SGD step, all others known.

    The threshold is that of the test's own distribution without the candidate, known in closed
    form; the lower limit of epsilon is from the hits and false alarms of the repeats.
    """
    images, labels = one_a_patient(path, 64)
    model = create("convnet", channels=1, image_size=64, outputs=2, activation="gelu", seed=seed)
    draws = generator(seed, "private")
    chosen = torch.randperm(len(images), generator=draws)[:8]
    kept = blocks(dict(model.named_parameters()), 500, generator=draws)
    raw = parts(model, {}, images[chosen], _summed(labels[chosen]), kept)
    rows = clipped_rows(raw, float(raw.norm(dim=1).min()))
    clip = float(rows.norm(dim=1).min())
    part, others = rows[0], rows[1:].sum(0)
    for epsilon in EPSILONS:
        began = time.process_time()
        mu = ceilings.gaussian_mu(epsilon, DELTA)
        noise = clip / mu
        ratios = [
            torch.cat([
                log_ratios(
                    others + z * part + noise * torch.randn(500, len(part), generator=draws),
                    *(others, part, noise),
                )
                for _ in range(repeats // 500)
            ])
            for z in (0, 1)
        ]  # fmt: skip
        for alarms in FALSE_ALARMS:
            threshold = mu * float(stats.norm.ppf(1 - alarms)) - mu**2 / 2
            false, hits = (int((of > threshold).sum()) for of in ratios)
            low, high = figures.interval(hits, repeats)
            lower = ceilings.gaussian_epsilon_lower(hits, repeats, false, repeats, DELTA)
            yield {
                "case": f"DP-SGD, one step, false alarms {alarms}",
                "network": "convnet",
                "norm": "none",
                "data": f"{path.stem} 64x64",
                "defence": f"dp-sgd, epsilon {epsilon}",
                "images": 8,
                "steps": 1,
                "round": 1,
                "joined": False,
                "seed": seed,
                "auc": figures.auc(ratios[1], ratios[0]),
                "tpr_1": hits / repeats,
                "tpr_1_low": low,
                "tpr_1_high": high,
                "false_alarms": false / repeats,
                "ceiling": ceilings.gaussian_power(mu, alarms),
                "epsilon_lower": lower,
                "seconds": time.process_time() - began,
            }


def _summed(labels: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda outputs: functional.cross_entropy(outputs, labels, reduction="sum")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="Kermany's zip, or a MedMNIST npz")
    parser.add_argument("--out", type=Path, default=ROWS, help="file of rows, one a line")
    names = [*CASES, PRIVATE]
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=common.counts, default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=0, help="at most; 0 is all")
    parser.add_argument("--null", action="store_true", help="updates of other patients")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    common.threads()
    found = read(given.out) if given.out.exists() else []
    for name in given.case:
        for seed in given.seeds:
            own = of(found, name, given.data.stem, seed, null=given.null)
            if len(own) >= expected(name, given.rounds):
                continue
            found = [row for row in found if row not in own]  # of a seed that was broken off
            write(given.out, found)
            made = (
                private(given.data, seed)
                if name == PRIVATE
                else rows(name, given.data, seed, given.rounds, substituted=given.null)
            )
            for one in made:
                found.append(one)
                write(given.out, found)
                if not given.json:
                    print(one, file=sys.stderr, flush=True)
    common.json_line({"rows": found, "torch": torch.__version__})


def expected(name: str, rounds: int) -> int:
    """Return how many rows a case has of a seed."""
    if name == PRIVATE:
        return len(EPSILONS) * len(FALSE_ALARMS)
    case = CASES[name]
    attacked, rounds = sum(n > 1 for n in case.hospitals), min(rounds or case.rounds, case.rounds)
    return attacked * (2 * rounds - 1)


def of(
    found: list[dict[str, Any]], name: str, data: str, seed: int, *, null: bool
) -> list[dict[str, Any]]:
    """Return the rows of a case and a seed."""
    private = name == PRIVATE
    label = name + (", null" if null and not private else "")
    return [
        row
        for row in found
        if (row["case"].startswith(label) if private else row["case"] == label)
        and row["data"].split()[0] == data
        and row["seed"] == seed
    ]


def write(path: Path, found: list[dict[str, Any]]) -> None:
    """Write rows, one a line."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in found))


if __name__ == "__main__":
    main()
