"""Processes that are killed while they write: what stood before stays, and half is never read."""

from __future__ import annotations

import json
import os
import resource
import signal

import pytest

from adversary.common.files import atomic_write, stale_temporary_files
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder

SCHEMA = {"round": "Int64", "name": "string"}


def ended(child) -> int:
    """Run ``child`` in a process of its own, and return the signal that killed it."""
    process = os.fork()
    if process == 0:
        try:
            child()
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)
    return os.WTERMSIG(status)


def test_a_file_that_was_being_replaced_is_the_earlier_one(tmp_path):
    folder = RunFolder.create(tmp_path / "run", seed=7)

    def replace():
        with atomic_write(folder.path / "run.json") as temporary:
            temporary.write_text('{"seed": ')
            os.kill(os.getpid(), signal.SIGKILL)

    assert ended(replace) == signal.SIGKILL
    assert folder.info()["seed"] == 7
    assert len(stale_temporary_files(folder.path)) == 1
    folder.rewind(0)
    assert stale_temporary_files(folder.path) == []
    assert json.loads((folder.path / "run.json").read_text())["seed"] == 7


@pytest.mark.parametrize("limit", [50, 61, 69])
def test_a_row_that_was_being_written_is_dropped(tmp_path, limit):
    path = tmp_path / "table.csv"
    csv_table.create(path, SCHEMA)
    csv_table.append(path, SCHEMA, [{"round": 1, "name": "a" * 30}])
    whole = path.read_bytes()
    assert len(whole) < limit

    def append():
        # The system writes up to the limit, and kills whoever goes on.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        csv_table.append(path, SCHEMA, [{"round": 2, "name": "b" * 30}])

    assert ended(append) == signal.SIGXFSZ
    assert path.read_bytes() == whole + b"2,bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"[: limit - len(whole)]
    csv_table.append(path, SCHEMA, [{"round": 2, "name": "c"}])
    assert path.read_bytes() == whole + b"2,c\n"
