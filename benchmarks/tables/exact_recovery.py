"""Exact recovery: docs/results/exact-recovery.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.tables import markdown, trained_networks
from benchmarks.tables.rows import ResultError, Row, having
from benchmarks.tables.templating import render

USUAL = {
    "head": "binary",
    "batch": 1,
    "local_steps": 1,
    "trained_rounds": 0,
    "size": 32,
    "attack": "gauss-newton",
    "batch_norm": "eval",
}
"""What a case is of unless it says otherwise; of one size, the X-rays of one set."""

DATA = {16: "pneumoniamnist_28.npz", 32: "pneumoniamnist_28.npz", 48: "images.zip",
        64: "images.zip"}  # fmt: skip
"""By size: X-rays above 32x32 are Kermany's."""

NAMES = {
    "gelu": "GELU ConvNet",
    "silu": "SiLU ConvNet",
    "relu": "ReLU ConvNet",
    "sigmoid": "sigmoid ConvNet",
    "lenet": "LeNet",
    "efficientnet-b0": "EfficientNet-B0",
    "convnext-tiny": "ConvNeXt-Tiny",
    "resnet18": "ResNet18",
    "densenet121": "DenseNet121",
}


def case(model: str, **others: Any) -> dict[str, Any]:
    """Return what the row of a case has."""
    return {**USUAL, "model": model, **others}


def cases(model: str, batches: Iterable[int], **others: Any) -> list[dict[str, Any]]:
    """Return a case a batch size."""
    return [case(model, batch=batch, **others) for batch in batches]


_HUNDRED = {"head": "100", "start": "encodings"}
_RECURSIVE = {"attack": "recursive"}

CASES = [
    *cases("gelu", (1, 2, 4)),
    case("silu"),
    *cases("relu", (1, 2)),
    case("sigmoid"),
    *cases("lenet", (1, 2, 4)),
    *cases("lenet", (1, 2, 4, 8, 16), **_HUNDRED),
    case("gelu", size=64),
    *cases("gelu", (1, 2), local_steps=2),
    *cases("gelu", (1, 2), local_steps=4),
    case("lenet", local_steps=2),
    case("lenet", local_steps=4),
    case("lenet", batch=2, local_steps=2),
    case("lenet", batch=2, local_steps=4),
    *cases("lenet", (1, 2, 4), trained_rounds=10),
    *cases("gelu", (1, 2, 4), trained_rounds=10),
    *cases("relu", (1, 2), trained_rounds=10),
    case("efficientnet-b0"),
    *cases("efficientnet-b0", (1, 2), size=64),
    case("convnext-tiny", start="mean"),
    *cases("resnet18", (1, 2, 4), **_RECURSIVE),
    *cases("resnet18", (1, 2, 4), trained_rounds=10, **_RECURSIVE),
    case("resnet18", size=64, **_RECURSIVE),
    case("resnet18", size=64, trained_rounds=10, **_RECURSIVE),
    *cases("densenet121", (1, 2), **_RECURSIVE),
    case("densenet121", trained_rounds=10, **_RECURSIVE),
    case("densenet121", size=64, **_RECURSIVE),
    case("densenet121", size=64, trained_rounds=10, **_RECURSIVE),
]
"""The rows of the large table, in its order."""

_STARTS = {"encodings": "from encodings", "mean": "from the mean public X-ray"}


class Rows:
    """Rows of the benchmark, found by their case.

    Parameters
    ----------
    found : mapping
        What exact_recovery.json holds: the last run of each setting.
    rounded : sequence of mapping
        Figures of runs whose rows were not kept, as they were published. They come first.
    """

    def __init__(self, found: Mapping[str, Any], rounded: Iterable[Row] = ()) -> None:
        self._rows = [*found["rows"]]
        self._rounded = [*rounded]

    def of(self, wanted: Mapping[str, Any]) -> Row:
        """Return the row of a case.

        Raises
        ------
        ResultError
            If there is none, or more than one.
        """
        given = {"data": DATA[wanted["size"]], **wanted}
        found = having(self._rounded, **given) or having(self._rows, **given)
        if len(found) != 1:
            raise ResultError(f"{len(found)} rows of {wanted}: must be one")
        return found[0]

    def bound_of(self, wanted: Mapping[str, Any]) -> Row:
        """Return a row that has the bound of a case's update, which no attack changes; or {}."""
        given = {name: wanted[name] for name in USUAL if name != "attack"}
        same = having(self._rows, model=wanted["model"], data=DATA[wanted["size"]], **given)
        return next((row for row in same if "bound_psnr" in row), {})

    def at(self, model: str, **others: Any) -> Row:
        """Return the row of a case by what is unusual about it."""
        return self.of(case(model, **others))

    def earlier(self, model: str, **others: Any) -> Row:
        """Return the kept row of a case of which a later run was published."""
        return Rows({"rows": self._rows}).at(model, **others)


def page(found: Mapping[str, Any], rounded: Iterable[Row], realistic: Iterable[Row]) -> str:
    """Return the page of what exact_recovery.json, the rounded rows and realistic.jsonl hold."""
    rows = Rows(found, rounded)
    return render(
        "exact_recovery.md",
        table=_table(rows),
        first_order=_first_order(rows),
        activations=_activations(rows),
        at=rows.at,
        earlier=rows.earlier,
        trained=trained_networks.curve(realistic, trained_networks.OURS)["auc"][-1],
        second_round=trained_networks.attack(realistic, "resnet18", attack="recursive", round=2),
    )


def title(wanted: Mapping[str, Any]) -> str:
    """Return a case in words: the network, what is unusual, and the images in the batch."""
    size, steps, trained = wanted["size"], wanted["local_steps"], wanted["trained_rounds"]
    parts = [
        NAMES[wanted["model"]],
        "100 outputs" if wanted["head"] == "100" else "",
        _STARTS.get(wanted.get("start", ""), ""),
        f"{size}x{size}" if size != USUAL["size"] else "",
        f"after {trained} rounds of training" if trained else "",
        f"{steps} local steps of {wanted['batch']}" if steps > 1 else f"{wanted['batch']}",
    ]
    text = ", ".join(part for part in parts if part)
    return text + ("" if wanted["attack"] == "gauss-newton" else f": `{wanted['attack']}`")


def psnr(row: Row, figure: str = "psnr", worst: str = "psnr_worst") -> str:
    """Return the mean PSNR of a row, with the worst image's in brackets where they differ."""
    if row.get(figure) is None:
        return ""
    mean, least = markdown.number(row[figure]), markdown.number(row.get(worst, row[figure]))
    return mean if mean == least else f"{mean} ({least})"


def _table(rows: Rows) -> str:
    body = []
    for wanted in CASES:
        row = rows.of(wanted)
        bound = psnr(rows.bound_of(wanted), "bound_psnr", "bound_worst")
        stopped = ", stopped" if row.get("stopped") == "seconds" else ""
        body.append([title(wanted) + stopped, psnr(row), bound, str(row["steps"]),
                     markdown.seconds(row.get("cpu_seconds"))])  # fmt: skip
    head = ["network, batch", "PSNR, dB (worst image)", "bound, dB (worst image)", "steps",
            "CPU seconds"]  # fmt: skip
    return markdown.table(head, body)


def _first_order(rows: Rows) -> str:
    """Return the table of first-order attacks beside ``recursive`` on ReLU networks."""
    others = ({"attack": "ing", "start": "mean"}, {"attack": "stg"})
    body = []
    for model in ("resnet18", "densenet121"):
        for size in (32, 64):
            row = rows.at(model, size=size, **_RECURSIVE)
            cells = [f"{row['psnr']:.1f} dB, {row['cpu_seconds']:.0f} s"]
            for other in others:
                row = rows.at(model, size=size, **other)
                told = f"{row['psnr']:.1f} dB", f"{row['steps']} steps"
                cells.append(", ".join([*told, f"{row['cpu_seconds']:.0f} s"]))
            body.append([f"{NAMES[model]}, {size}x{size}", *cells])
    return markdown.table(["network", "`recursive`", "`ing`", "`stg`"], body)


def _activations(rows: Rows) -> str:
    names = {"relu": "ReLU", "silu": "SiLU", "gelu": "GELU", "sigmoid": "sigmoid"}
    found = {name: rows.at(model) for model, name in names.items()}
    body = [
        [name, markdown.number(row["psnr"]), markdown.number(row["bound_psnr"])]
        for name, row in found.items()
    ]
    return markdown.table(["activation", "recovery, dB", "bound, dB"], body)
