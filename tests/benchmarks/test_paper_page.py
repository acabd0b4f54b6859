"""The page of the paper's tables says what the rows say, published figures beside them."""

from __future__ import annotations

from benchmarks.tables import paper_tables
from benchmarks.tables.rows import read


def row(table, batch, **figures):
    about = {"table": table, "dataset": "CIFAR-100", "model": "LeNet", "batch": batch}
    return {**about, "method": "EncGradInversion phase 2", **figures}


def encodings(batch):
    return [
        row("III", batch, mse=10.0 ** -(9 + 3 * place), relative_mse=1e-7) | {"method": method}
        for place, method in enumerate(("OHA", "GRA", "consistent"))
    ]


def test_rows_stand_beside_the_published_ones(root):
    kept, times = (
        read(root / "benchmarks" / "results" / f"{name}.jsonl")
        for name in ("paper_tables", "encgrad_time")
    )
    four = row("IV", 1, ssim=0.7, psnr=30.04, batches=8) | {"method": "EncGradInversion"}
    timed = [row("time", b, seconds=1 + b / 8, ssim=0.95, psnr=30.0, peak_mib=1000.0 + b)
             for b in (1, 512)]  # fmt: skip
    text = paper_tables.page(kept, times, [*encodings(8), four, *timed])
    assert "| LeNet | EncGradInversion | .700 / 30.0 (.779 / 23.4) |" in text
    text = " ".join(text.split())  # lines end anywhere
    assert "means over 8 of LeNet;" in text
    assert "Below the published figures: LeNet at B = 1 in SSIM." in text
    assert "| 512 | 65.00 | 1,211 | .950 / 30.0 | 1,512 |" in text
    assert "0.125 s an image" in text
    assert "| 8 | 1.0e-9 (6.8e-10) | 1.0e-12 (4.3e-10) | 1.0e-15 | 1.0e-7 |" in text
