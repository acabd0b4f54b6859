"""Deep networks in training, and what their updates leak: docs/results/trained-networks.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.tables import markdown
from benchmarks.tables.rows import ResultError, Row, having, only
from benchmarks.tables.templating import render

ROUNDS = (1, 2, 5, 10)
BATCHES = (1, 2, 4)
STEPS = (1, 4, 8)

OURS = {"what": "training, stretched, channels-last memory", "model": "resnet18"}
"""The training whose models are attacked."""

CURVES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ResNet18", OURS),
    ("ResNet18, sums in another order (memory layout)",
     {"what": "training, stretched", "model": "resnet18"}),
    ("ResNet18, stretched by more (factors up to 1.3, not 1.2)",
     {"what": "training, stretched by up to 2 at strength 1", "model": "resnet18"}),
    ("ResNet18, without stretching", {"what": "training", "model": "resnet18"}),
    ("ResNet18, without augmentation, lr .01, stopped",
     {"what": "training, without augmentation, stopped", "model": "resnet18"}),
    ("ResNet18, zoom and weight decay .001 besides, another seed",
     {"what": "training, zoomed, weight decay 0.001, seed 2, channels-last memory",
      "model": "resnet18"}),
    ("ResNet18, zoom and gamma besides, stopped",
     {"what": "training, zoom and gamma besides, stopped", "model": "resnet18"}),
    ("DenseNet121", {"what": "training", "model": "densenet121"}),
    ("DenseNet121, without stretching",
     {"what": "training, without stretching", "model": "densenet121"}),
    ("DenseNet121, the same in another memory layout",
     {"what": "training, without stretching, channels-last memory", "model": "densenet121"}),
    ("ResNet18 at 224x224, stopped",
     {"what": "training, stopped", "model": "resnet18", "size": 224}),
    ("ResNet18, the same on another machine",
     {"what": "training, again on another machine", "model": "resnet18"}),
    ("ResNet18 at 224x224, 600 X-rays (120 to test)",
     {"what": "training", "model": "resnet18", "size": 224, "xrays": 600}),
    ("DenseNet121 at 224x224, 600 X-rays",
     {"what": "training", "model": "densenet121", "size": 224, "xrays": 600}),
)  # fmt: skip

FAILURES = {
    "NaN or infinite": "training diverges",
    "no restart reached a finite score": "no finite score",
    "no factor of an image": "not recovered",
}
"""What a cell says where an attack gave nothing, by what its failure says."""

_ORDER = ("recursive", "ing", "batch-statistics")


def curve(rows: Iterable[Row], wanted: dict[str, Any]) -> Row:
    """Return the row of a training."""
    return only(rows, **{"size": 64, "xrays": 0, **wanted})


def attack(rows: Iterable[Row], model: str, **wanted: Any) -> Row:
    """Return the row of an attack, on one image of one step at 64x64 unless ``wanted`` says."""
    usual = {"what": "attack", "size": 64, "xrays": 0, "batch": 1, "steps": 1}
    return only(rows, **{**usual, "model": model, **wanted})


def prior(rows: Iterable[Row], **wanted: Any) -> float:
    """Return the PSNR of the mean public X-ray beside an update's images, the same for all attacks.

    Raises
    ------
    ResultError
        If no attack on such an update has a row, or they do not agree.
    """
    usual = {"what": "attack", "size": 64, "xrays": 0, "batch": 1, "steps": 1}
    found = having(rows, **{**usual, **wanted})
    values = {round(row["prior_psnr"], 6) for row in found if "prior_psnr" in row}
    if len(values) != 1:
        raise ResultError(f"{len(values)} PSNRs of the mean public X-ray of {wanted}: must be one")
    return values.pop()


def page(rows: Sequence[Row], rounded: Sequence[Row], errors: Sequence[Row]) -> str:
    """Return the page of realistic.jsonl, and of figures whose rows were not kept."""
    everything = [*rows, *rounded]
    return render(
        "trained_networks.md",
        curves=_curves(everything),
        curve=lambda **wanted: curve(everything, wanted),
        ours=curve(rows, OURS),
        attack=lambda model, **wanted: attack(rows, model, **wanted),
        resnet=_attacks(having(rows, what="attack", model="resnet18", size=64)),
        densenet=_attacks(having(rows, what="attack", model="densenet121", size=64)),
        large=_large(having(rows, what="attack", size=224)),
        errors=_errors(errors),
        prior=lambda **wanted: prior(rows, **wanted),
        several=sorted(prior(rows, steps=s, batch=b) for s in STEPS if s > 1 for b in BATCHES),
        candidates=attack(rows, "resnet18", attack="ing", round=1, batch_norm="eval")["candidates"],
        few=attack(rows, "resnet18", attack="recursive", round=1, size=224, xrays=600),
    )


def _curves(rows: Sequence[Row]) -> str:
    body = []
    for title, wanted in CURVES:
        row = curve(rows, wanted)
        cells = " ".join(markdown.fraction(auc, 3) for auc in row["auc"])
        body.append([title, cells, markdown.seconds(row.get("seconds"))])
    return markdown.table(
        ["training", "AUC on the test split after each round", "CPU seconds"], body
    )


def _cell(rows: Sequence[Row]) -> str:
    """Return PSNR / RDLV / re-identified of the one row there may be."""
    if not rows:
        return ""
    (row,) = rows
    if "failure" in row:
        return next(text for part, text in FAILURES.items() if part in row["failure"])
    shares = markdown.fraction(row["rdlv"]), markdown.share(row["reidentified"])
    return " / ".join([f"{row['psnr']:.1f}", *shares])


def _kind(row: Row) -> tuple[Any, ...]:
    """Orders kinds of updates: few steps first, eval mode first, the strongest attack first."""
    return row["steps"], row["batch_norm"] != "eval", _ORDER.index(row["attack"])


def _named(row: Row) -> str:
    steps = f", {row['steps']} steps" if row["steps"] > 1 else ""
    return f"{row['batch_norm']}, `{row['attack']}`{steps}"


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    """Return a line a kind of update and batch, a cell a round."""
    lines = []
    for kind in sorted({_kind(row) for row in rows}):
        own = [row for row in rows if _kind(row) == kind]
        for batch in BATCHES:
            if found := having(own, batch=batch):
                cells = [_cell(having(found, round=round)) for round in ROUNDS]
                lines.append([_named(found[0]), str(batch), *cells])
    return lines


_HEAD = [f"round {round}" for round in ROUNDS]


def _attacks(rows: Sequence[Row]) -> str:
    return markdown.table(["BN, attack", "B", *_HEAD], _lines(rows))


def _large(rows: Sequence[Row]) -> str:
    body = []
    for model, title in (("resnet18", "ResNet18"), ("densenet121", "DenseNet121")):
        for xrays in (0, 600):
            own = having(rows, model=model, xrays=xrays)
            body += [
                [f"{title}, {kind}", f"{xrays or 'all'}", *cells] for kind, *cells in _lines(own)
            ]
    return markdown.table(["224x224", "X-rays", "B", *_HEAD], body)


def _errors(rows: Sequence[Row]) -> str:
    body = [
        [row["error"], str(row["gradients"]), f"{row['psnr']:.1f}", markdown.fraction(row["rdlv"])]
        for row in rows
    ]
    return markdown.table(["error", "gradients a stage", "PSNR, dB", "RDLV"], body)
