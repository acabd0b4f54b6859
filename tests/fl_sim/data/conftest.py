import os
from pathlib import Path

import pytest


@pytest.fixture
def shared():
    """The folder of real data beside the checkout."""
    folder = Path(os.environ.get("FL_SIM_SHARED", Path(__file__).parents[4] / "shared"))
    if not (folder / "data/cxr").is_dir():
        pytest.skip(f"no data/cxr in {folder}; FL_SIM_SHARED names another folder")
    return folder
