"""A federation on real X-rays that learns, and what its updates leak round by round.

Run as ``python -m benchmarks realistic --data images.zip --model resnet18 --runs results/realistic
train attack``. ``train`` runs ``configs/kermany.toml`` in this process and keeps the model of every
round. ``attack`` takes the models that were sent in rounds 1, 2, 5 and 10, lets clients make one
update each of them, and reconstructs their images. The same patients in every round, not
augmented, with the first round's learning rate, so that rounds differ by the model alone; labels
are not given. A cell is the mean over at least two images. ``--xrays`` limits both the training
and the patients among whom to re-identify, where whole ones take too long.

Every row is appended to ``--rows`` as soon as it is known, and no row that is there is worked out
again: the same command goes on where it was stopped. Every cell has the same number of gradients
of a mini-batch to spend (``--gradients``; ``batch-statistics`` in each of its stages), an update
of k steps taking k an iteration.
``seconds`` is processor time. The last line is JSON {"rows", "left", "seconds"}. ``table``
prints what there is as Markdown.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adversary import Observation
from adversary.common.truth import Truth
from adversary.common.types import StateDict
from adversary.scoring.image_scores import score_images
from adversary.scoring.metrics import psnr
from adversary.storage.run_folder import RunFolder
from benchmarks import common
from fl_sim.client_names import client_name
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import Federation, build_federation
from fl_sim.models.checkpoints import CheckpointError, of_round
from fl_sim.settings.parse import flatten_toml, parse
from fl_sim.settings.schema import Settings
from fl_sim.training.local_training import train

CONFIG = Path(__file__).parents[1] / "configs" / "kermany.toml"
ROWS = Path(__file__).parent / "results" / "realistic.jsonl"
ROUNDS = [1, 10, 2, 5]  # the most telling first
BATCHES = [1, 2, 4]
STEPS = [1, 4, 8]
BATCH_NORMS = ["eval", "train"]
FEWEST_IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the table: which update is attacked, and how."""

    model: str
    size: int
    xrays: int
    round: int
    batch: int
    steps: int
    batch_norm: str
    reading: str
    attack: str

    @property
    def updates(self) -> int:
        """How many clients' updates have to be attacked for enough images."""
        return max(1, FEWEST_IMAGES // (self.batch * self.steps))


def cells(given: argparse.Namespace) -> list[Cell]:
    """Return all cells, the most telling first: first and last round, small batch, few steps."""
    places = range(len(given.rounds)), range(len(given.batches)), range(len(given.steps))
    every = product(*places, given.batch_norms)
    order = sorted(every, key=lambda at: (at[0] // 2 + at[1] + at[2], at[2], at[1], at[0]))
    return [
        Cell(
            model=given.model,
            size=given.size,
            xrays=given.xrays,
            round=given.rounds[r],
            batch=given.batches[b],
            steps=given.steps[s],
            batch_norm=mode,
            reading=given.reading,
            attack=given.attack,
        )
        for r, b, s, mode in order
    ]


def configured(given: argparse.Namespace, **changes: Any) -> Settings:
    """Return the settings of the federation, with changes."""
    document = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    own = {
        "data.path": str(given.data),
        "data.image-size": given.size,
        "data.num-images": given.xrays,
        "model.name": given.model,
        "out": str(run_folder(given)),
        "device": "cpu",
    }
    return parse({**dict(flatten_toml(document)), **own, **changes})


def run_folder(given: argparse.Namespace) -> Path:
    few = f"-{given.xrays}" if given.xrays else ""
    return Path(given.runs) / f"{given.model}-{given.size}{few}"


def training(given: argparse.Namespace) -> dict[str, Any]:
    """Train, and return the curve."""
    settings = configured(given)
    began = time.process_time()
    run_in_process(settings)
    seconds = time.process_time() - began
    rounds = RunFolder.open(Path(settings.out)).rounds()
    return {
        "what": "training",
        "model": given.model,
        "size": given.size,
        "xrays": given.xrays,
        "auc": rounds["auc"].tolist(),
        "loss": rounds["loss"].tolist(),
        "lr": settings.local.lr,
        "momentum": settings.local.momentum,
        "schedule": settings.local.schedule,
        "defence": f"{settings.defence.name}: {settings.defence.options}",
        "batch": settings.local.batch_size,
        "epochs": settings.local.epochs,
        "clients": settings.clients,
        "seconds": seconds,
    }


def assembled(given: argparse.Namespace, cell: Cell) -> Federation:
    """Return the parts of a federation that goes on from a round's model with this update."""
    iterations = max(1, given.gradients // cost(cell))
    # The first weights follow from the seed, so that round 1 needs no training.
    weights = of_round(run_folder(given), cell.round - 1) if cell.round > 1 else ""
    settings = configured(
        given,
        **{
            "model.weights": str(weights),
            "model.batch-norm": cell.batch_norm,
            "defence.name": "none",
            "defence.options": "",
            "local.batch-size": cell.batch,
            "local.max-steps": cell.steps,
            "local.epochs": 1,
            "local.schedule": "constant",
            "adversary.enabled": True,
            "adversary.attack": cell.attack,
            "adversary.reading": cell.reading,
            "adversary.start": given.start,
            "adversary.options": ", ".join(
                [f"{cell.attack}.iterations={iterations}", *given.options]
            ),
        },
    )
    return build_federation(settings, settings.clients)


def cost(cell: Cell) -> int:
    """Return how many mini-batch gradients one evaluation of the attack takes."""
    return cell.steps if cell.reading in ("auto", "unrolled") else 1


def update(run: Federation, client: int) -> Observation:
    """Return what the server sees of a client's training."""
    model, part = run.model(), run.parts[client]
    sent = copied(model.state_dict())
    train(
        model,
        run.training_inputs(1, client),
        part.labels,
        run.recipe,
        run.batches(1, client),
        device="cpu",
    )
    return Observation(
        round=1,
        client=client_name(client),
        sent=sent,
        returned=copied(model.state_dict()),
        num_examples=len(part),
        recipe=run.recipe,
    )


def copied(state: StateDict) -> StateDict:
    return {name: value.detach().clone() for name, value in state.items()}


def attacked(given: argparse.Namespace, cell: Cell) -> dict[str, Any]:
    """Return the row of one cell."""
    run = assembled(given, cell)
    adversary, prior, candidates = run.adversary(), run.prior(), run.candidates()
    assert prior is not None
    began = time.process_time()
    images: list[dict[str, Any]] = []
    for client in range(cell.updates):
        seen = update(run, client)
        truth = run.truth(seen)
        assert isinstance(truth, Truth)
        for outcome in adversary.run_attacks(seen, run.threat_model(seen)):
            if outcome.reconstruction is None:
                return {"what": "attack", **asdict(cell), "failure": outcome.failure}
            scores = score_images(outcome.reconstruction, truth, prior=prior, candidates=candidates)
            base = psnr(prior.mean.expand_as(truth.images), truth.images).tolist()
            images += [
                {
                    "psnr": one.psnr,
                    "prior_psnr": public,
                    "ssim": one.ssim,
                    "rdlv": one.rdlv,
                    "reidentified": one.reidentified,
                    "label_accuracy": one.label_true == one.label_recovered,
                    "evaluations": outcome.reconstruction.evaluations,
                }
                for one, public in zip(scores, base, strict=True)
            ]
    means = {name: float(np.mean([one[name] for one in images])) for name in images[0]}
    return {
        "what": "attack",
        **asdict(cell),
        **means,
        "images": len(images),
        "candidates": len(candidates),
        "start": given.start,
        "options": ", ".join(given.options),
        "gradients": given.gradients,
        "seconds": time.process_time() - began,
    }


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what tells a row from others of its kind."""
    cell = [field.name for field in fields(Cell)]
    names = cell if row["what"] == "attack" else ["model", "size", "xrays"]
    return row["what"], *(row[name] for name in names)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a file, and print it."""
    common.append_row(path, row)
    print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
          flush=True)  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return the attacks as Markdown: PSNR / RDLV / re-identified, a line a kind of update."""
    found = {key(row): row for row in rows if row["what"] == "attack" and "psnr" in row}
    columns = list(product(sorted({row["round"] for row in found.values()}), BATCHES))
    head = [f"r{round} B{batch}" for round, batch in columns]
    lines = ["| model | attack | BN | steps | " + " | ".join(head) + " |"]
    lines.append("|" + " --- |" * (4 + len(head)))
    names = ("model", "size", "xrays", "reading", "attack", "batch_norm", "steps")
    for line in sorted({tuple(row[name] for name in names) for row in found.values()}):
        of = dict(zip(names, line, strict=True))
        places = [
            found.get(key({"what": "attack", **of, "round": round, "batch": batch}))
            for round, batch in columns
        ]
        values = [
            f"{at['psnr']:.1f} / {at['rdlv']:.2f} / {at['reidentified']:.0%}" if at else ""
            for at in places
        ]
        model = f"{of['model']} {of['size']}" + (f", {of['xrays']}" if of["xrays"] else "")
        named = f"{model} | {of['attack']} | {of['batch_norm']} | {of['steps']}"
        lines.append(f"| {named} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def wanted(given: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells that are asked for and not known."""
    known = {key(row) for row in common.read_rows(given.rows)}
    for cell in cells(given):
        if key({"what": "attack", **asdict(cell)}) not in known:
            yield cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=("train", "attack", "table"))
    parser.add_argument("--data", type=Path, required=True, help="Kermany's zip file or folder")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--xrays", type=int, default=0, help="in all three splits; 0 is all")
    parser.add_argument("--runs", type=Path, default=Path("results/realistic"))
    parser.add_argument("--rows", type=Path, default=ROWS, help="JSON lines to go on with")
    parser.add_argument("--rounds", type=common.counts, default=ROUNDS, help="e.g. 1,10,2,5")
    parser.add_argument("--batches", type=common.counts, default=BATCHES)
    parser.add_argument("--steps", type=common.counts, default=STEPS)
    parser.add_argument("--batch-norms", nargs="*", choices=BATCH_NORMS, default=BATCH_NORMS)
    parser.add_argument("--attack", default="ing")
    parser.add_argument("--reading", default="auto")
    parser.add_argument("--options", nargs="*", default=[], help="of the attack, e.g. ing.lr=0.03")
    parser.add_argument("--start", default="own")
    parser.add_argument("--gradients", type=int, default=96, help="mini-batch gradients an update")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after")
    given = parser.parse_args()
    torch.set_num_threads(common.threads())
    began = time.monotonic()
    if "train" in given.parts:
        row = {
            "what": "training",
            "model": given.model,
            "size": given.size,
            "xrays": given.xrays,
        }
        if key(row) not in {key(other) for other in common.read_rows(given.rows)}:
            append(given.rows, training(given))
    left = 0
    for cell in wanted(given) if "attack" in given.parts else ():
        if time.monotonic() - began > 60 * given.minutes:
            left += 1
            continue
        try:
            append(given.rows, attacked(given, cell))
        except CheckpointError as error:  # not trained so far yet
            print(error)
            left += 1
    if "table" in given.parts:
        print(table(common.read_rows(given.rows)))
    common.json_line({"rows": str(given.rows), "left": left, "seconds": time.process_time()})


if __name__ == "__main__":
    main()
