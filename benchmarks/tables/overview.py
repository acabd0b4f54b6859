"""What was measured, on one page, and in a few lines for the README: docs/results/index.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import markdown
from benchmarks.tables.exact_recovery import Rows
from benchmarks.tables.rows import Row, only
from benchmarks.tables.templating import render
from benchmarks.tables.trained_networks import OURS, attack, curve


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
    gelu, four = rows.at("gelu"), rows.at("gelu", batch=4)
    steps = rows.at("gelu", batch=2, local_steps=2)
    deep = rows.at("resnet18", size=64, attack="recursive")
    late = attack(realistic, "resnet18", attack="recursive", round=10)
    buffers = attack(realistic, "resnet18", attack="batch-statistics", round=10)
    first_order = attack(realistic, "resnet18", attack="ing", batch_norm="eval", round=10)
    encgrad = only(paper, table="IX", method="EncGradInversion", batch=8)
    auc = markdown.fraction(curve(realistic, OURS)["auc"][-1], 3)
    lines = [
        ("one X-ray, GELU ConvNet, 32x32", "gauss-newton", _exact(gelu), exact),
        ("four X-rays, the same", "gauss-newton", _exact(four), exact),
        ("two local steps of two, the same", "gauss-newton", _exact(steps), exact),
        ("one X-ray, ResNet18, 64x64", "recursive", _exact(deep), exact),
        (f"the same, trained to AUC {auc}", "recursive", _near(late), trained),
        ("the same, a first-order attack", "ing", _near(first_order), trained),
        ("the same, batch norm in training mode", "batch-statistics", _near(buffers), trained),
        (f"{encgrad['batch']} natural images, LeNet", "encgrad",
         f"{encgrad['psnr']:.1f} dB (published: {encgrad['published']['psnr']:.1f})", tables),
    ]  # fmt: skip
    body = [[what, f"`{name}`", figure, where] for what, name, figure, where in lines]
    return markdown.table(["one update of", "attack", "PSNR", "more"], body)


def _exact(row: Row) -> str:
    """Return the PSNR of the worst image, and the time."""
    return f"{row['psnr_worst']:.1f} dB in {row['cpu_seconds']:,.0f} s"


def _near(row: Row) -> str:
    return f"{row['psnr']:.1f} dB, {markdown.share(row['reidentified'])} re-identified"
