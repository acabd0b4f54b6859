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
