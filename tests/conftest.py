"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["helpers.skips"]

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run; `pytest --hypothesis-profile=default` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tester name a checkout of Flower's examples."""
    parser.addoption(
        "--examples", metavar="DIR", help="folder of Flower's examples, of a checkout of Flower"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files first that start Flower: of several workers none is left with them at the end.

    ``--no-loadscope-reorder`` makes pytest-xdist keep that order.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "integration" not in item.path.parts))


@pytest.fixture
def examples(request: pytest.FixtureRequest) -> Path:
    """The folder of Flower's examples that --examples names."""
    folder = request.config.getoption("--examples")
    if folder is None:
        pytest.skip("no checkout of Flower's examples; --examples names one")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data and weights, beside the checkout."""
    folder = Path(os.environ.get("FL_SIM_SHARED", ROOT.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no shared folder at {folder}; FL_SIM_SHARED names another")
    return folder
