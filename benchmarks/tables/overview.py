"""What was measured, on one page, and in a few lines for the README: docs/results/index.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tables import markdown
from benchmarks.tables.exact_recovery import Rows
from benchmarks.tables.rows import Row, only
from benchmarks.tables.templating import render
from benchmarks.tables.trained_networks import OURS, ROUNDS, attack, curve


def page(found: Row, realistic: Sequence[Row], paper: Sequence[Row]) -> str:
    """Return the first page of the results."""
    return render("overview.md", table=_table(found, realistic, paper, ""))


def table(found: Row, realistic: Sequence[Row], paper: Sequence[Row]) -> str:
    """Return the README's table, with links from there."""
    return _table(found, realistic, paper, "docs/results/")


def _table(found: Row, realistic: Sequence[Row], paper: Sequence[Row], folder: str) -> str:
    rows = Rows(found)
    exact = f"[exact recovery]({folder}exact-recovery.md)"
    trained = f"[trained networks]({folder}trained-networks.md)"
    tables = f"[paper's tables]({folder}paper-tables.md)"
    steps = rows.at("gelu", batch=2, local_steps=2)
    more_steps = rows.at("gelu", batch=2, local_steps=4)
    deep = rows.at("resnet18", size=64, attack="recursive")
    evaluated = {"batch_norm": "eval"}
    encgrad = only(paper, table="IX", method="EncGradInversion", batch=8)
    published = encgrad["published"]
    auc = markdown.fraction(curve(realistic, OURS)["auc"][-1], 3)
    lines = [
        ("one X-ray, GELU ConvNet, 32x32", "gauss-newton", _exact(rows.at("gelu")), exact),
        ("four X-rays, the same", "gauss-newton", _exact(rows.at("gelu", batch=4)), exact),
        ("two local steps of two, the same", "gauss-newton", _exact(steps), exact),
        ("four local steps of two, the same", "gauss-newton", _exact(more_steps), exact),
        ("one X-ray, ResNet18, 64x64", "recursive", _exact(deep), exact),
        (f"the same, in training to AUC {auc}", "recursive",
         _rounds(realistic, attack="recursive", **evaluated), trained),
        ("the same, a first-order attack", "ing",
         _rounds(realistic, attack="ing", **evaluated), trained),
        ("the same, four local steps", "ing",
         _rounds(realistic, attack="ing", steps=4, **evaluated), trained),
        ("one step, batch norm in training mode", "batch-statistics",
         _rounds(realistic, attack="batch-statistics"), trained),
        (f"{encgrad['batch']} natural images, LeNet", "encgrad",
         f"{encgrad['psnr']:.1f} dB (published, other images: {published['psnr']:.1f})", tables),
    ]  # fmt: skip
    body = [[what, f"`{name}`", figure, where] for what, name, figure, where in lines]
    return markdown.table(["one update of", "attack", "PSNR", "more"], body)


def _exact(row: Row) -> str:
    """Return the PSNR of the worst image, and the time."""
    return f"{row['psnr_worst']:.1f} dB in {row['cpu_seconds']:,.0f} s"


def _rounds(realistic: Sequence[Row], **wanted: Any) -> str:
    """Return lowest and highest PSNR over the rounds attacked, and the patients re-identified."""
    found = [attack(realistic, "resnet18", round=number, **wanted) for number in ROUNDS]
    psnrs = [row["psnr"] for row in found]
    named = sum(row["reidentified"] for row in found) / len(found)
    return f"{min(psnrs):.1f} to {max(psnrs):.1f} dB, {markdown.share(named)} re-identified"
