from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fl_sim.settings import Settings, parse

QUICK = {
    "rounds": 2,
    "clients": 3,
    "device": "cpu",
    "data.name": "phantom",
    "data.num-images": 24,
    "data.image-size": 16,
    "local.batch-size": 2,
    "adversary.options": "dlg.iterations=2",
    "adversary.bounds": "off",
}


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., Settings]:
    """Return settings of a run of a second: small phantoms, an attack that hardly tries."""

    def settings(**changes: bool | int | float | str) -> Settings:
        given = {k.replace("__", ".").replace("_", "-"): v for k, v in changes.items()}
        options = {"adversary.options": ""} if "adversary.attack" in given else {}
        return parse({"out": str(tmp_path / "run"), **QUICK, **options, **given})

    return settings


@pytest.fixture(autouse=True)
def _no_perceptual_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not look for weights: these tests are not about metrics."""
    monkeypatch.setattr("adversary.scorer.load_lpips", lambda: (None, "not in this test"))


@pytest.fixture
def earlier() -> set[psutil.Process]:
    """Return the processes that other tests have left here, such as those of a compiler."""
    return set(psutil.Process().children(recursive=True))
