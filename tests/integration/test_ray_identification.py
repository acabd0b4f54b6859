"""A run that is killed and goes on keeps who was named, and looks for the rest, beside Ray."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from adversary.storage.identification_files import IdentificationFiles
from adversary.storage.run_folder import RunFolder
from fl_sim.engines.in_process import run_in_process
from fl_sim.settings.parse import flatten, parse
from fl_sim.workers import ray_queue
from fl_sim.workers.ray_queue import in_ray_cluster

SETTINGS = {
    **{"rounds": 2, "clients": 2, "checkpoints": True, "adversary__candidates": 40},
    **{"data__name": "sample", "data__num_images": 0, "data__sizes": "6, 12"},
    **{"local__batch_size": 4, "adversary__options": "dlg.iterations=1"},
}


@pytest.fixture(scope="module", autouse=True)
def _cluster(ray_of):
    ray_of(2)


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch):
    """Let each run start one process that attacks: there are four runs."""
    monkeypatch.setattr(ray_queue, "_free_slots", lambda *_: 1)


class Killed(BaseException):
    """Ends the run where it stands."""


def tables(settings) -> tuple[pd.DataFrame, str]:
    """Return the run's identification.csv without times, and its candidates.csv."""
    folder = RunFolder.open(Path(settings.out))
    assert folder.info()["status"] == "completed"
    candidates = (folder.path / "candidates.csv").read_text()
    return folder.identification().drop(columns="seconds"), candidates


@pytest.fixture(scope="module")
def whole():
    """The end of a run that was not killed, in line, once there is one."""
    return {}


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (RunFolder, "add_round", 2),  # all of the second round's updates are under way
        (IdentificationFiles, "add", 2),  # one of the first round's was written
    ],
)
def test_what_was_found_is_kept_and_the_rest_is_looked_for(
    quick, tmp_path, monkeypatch, owner, name, call, whole
):
    assert in_ray_cluster()
    if not whole:
        settings = quick(out=str(tmp_path / "whole"), **SETTINGS)
        with monkeypatch.context() as in_line:
            in_line.setattr("fl_sim.server_app.in_ray_cluster", lambda: False)
            run_in_process(settings)
        whole["tables"] = tables(settings)
        rows = whole["tables"][0]
        assert rows["members"].tolist() == [4, 4, 4, 4, 6, 8]  # a batch a round, then joined
        assert rows["auc"].notna().all()
    settings = quick(out=str(tmp_path / "broken"), **SETTINGS)
    real, calls = getattr(owner, name), []

    def dying(*args, **more):
        calls.append(1)
        result = real(*args, **more)
        if len(calls) == call:
            raise Killed
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(Killed):
            run_in_process(settings)
    run_in_process(parse({**flatten(settings), "resume": True}))
    found = tables(settings)
    pd.testing.assert_frame_equal(found[0], whole["tables"][0])
    assert found[1] == whole["tables"][1]
