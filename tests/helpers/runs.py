from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fl_sim.settings.layers import overlay
from fl_sim.settings.parse import parse
from fl_sim.settings.schema import Settings

QUICK = {
    "rounds": 2,
    "clients": 3,
    "device": "cpu",
    "data.name": "phantom",
    "data.num-images": 24,
    "data.image-size": 16,
    "local.batch-size": 2,
    "adversary.attack": "dlg",
    "adversary.options": "dlg.iterations=2",
    "adversary.bounds": "off",
}


@pytest.fixture
def quick(tmp_path: Path) -> Callable[..., Settings]:
    """Return settings of a run of a second: small phantoms, an attack that hardly tries."""

    def settings(**changes: bool | int | float | str) -> Settings:
        given = {k.replace("__", ".").replace("_", "-"): v for k, v in changes.items()}
        return parse(overlay({"out": str(tmp_path / "run")}, QUICK, given))

    return settings


@pytest.fixture(scope="module", autouse=True)
def _no_perceptual_metric() -> Iterator[None]:
    """Do not look for weights: these tests are not about metrics."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adversary.scoring.scorer.load_lpips", lambda: (None, "not in this test"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_drawing() -> Iterator[None]:
    """Lay the charts out and draw none: half of a short run's time.

    Charts are looked at in tests/adversary/report, and drawn by every run in a process of its own.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adversary.report.charts.as_svg", lambda figure, name: "<svg></svg>")
        yield


@pytest.fixture
def earlier() -> set[psutil.Process]:
    """Return the processes that other tests have left here, such as those of a compiler."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture(scope="module")
def ray_of() -> Iterator[Callable[[int], None]]:
    """Return what starts a Ray of its own, with so many processors, for a file of tests."""
    import ray

    def start(num_cpus: int) -> None:
        ray.init(
            address="local",  # not whatever else runs here
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
        )

    yield start
    ray.shutdown()
