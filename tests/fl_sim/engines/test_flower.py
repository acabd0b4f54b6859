import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from flwr.cli.build import build_fab_from_disk

import fl_sim
from fl_sim.cli.log_filter import LogFilter
from fl_sim.engines import flower
from fl_sim.engines.flower import LaunchError, RunStatus, run_app

PROJECT = """
[project]
name = "tiny"
version = "0.1.0"
description = "an app for tests"
license = "Apache-2.0"
dynamic = ["dependencies"]

[tool.flwr.app]
publisher = "tests"
components = { serverapp = "tiny.server:app", clientapp = "tiny.client:app" }

[tool.flwr.app.config]
behaviour = "ok"
note.text-with-hyphen = ""
"""
SERVER = """
import time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    config = context.run_config
    if config["behaviour"] == "server-raises":
        raise ValueError("local.lr = 0: must be > 0\\nrounds = 0: must be >= 1")
    while len(nodes := list(grid.get_node_ids())) < 3:
        time.sleep(0.1)
    print(f"fl-sim: note {config['note.text-with-hyphen']!r}")
    for action in ("train.first", "train.second"):
        messages = [Message(RecordDict(), node, action) for node in nodes]
        replies = list(grid.send_and_receive(messages))
        usable = sum(not reply.has_error() for reply in replies)
        print(f"fl-sim: {usable} of {len(replies)} replied")
"""
CLIENT = """
import os
import time
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train("first")
def first(message, context):
    print("client works in", os.getcwd())
    if context.run_config["behaviour"] == "sleep":
        time.sleep(600)
    return Message(RecordDict(), reply_to=message)

@app.train("second")
def second(message, context):
    behaviour = context.run_config["behaviour"]
    if behaviour == "client-raises" and context.node_config["partition-id"] == 0:
        raise ValueError("data.path = 'nowhere': no such folder")
    return Message(RecordDict(), reply_to=message)
"""
NOTE = "quotes ' and \", spaces, = and umlauts äö"


@pytest.fixture
def tiny(tmp_path) -> Path:
    return written_app(tmp_path)


def written_app(place: Path) -> Path:
    root = place / "an app"  # with a space: paths must survive it
    (root / "tiny").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "tiny" / "__init__.py").touch()
    (root / "tiny" / "server.py").write_text(SERVER)
    (root / "tiny" / "client.py").write_text(CLIENT)
    return root


def told(lines: list[str]) -> list[str]:
    return [remark.text for remark in map(LogFilter(), lines) if remark]


def leftovers(lines: list[str]) -> list[Path]:
    """The private folders that the clients said they work in, where they still are."""
    places = {Path(found) for found in re.findall(r"client works in (\S+)", "\n".join(lines))}
    assert places, "no client has spoken"
    assert Path.cwd() not in places
    return [place for place in places if place.parent.exists()]


@dataclass
class Completed:
    """A run whose clients all reply once; the second time one of them raises."""

    status: RunStatus
    lines: list[str]
    written: list[str]
    left: set[psutil.Process]


@pytest.fixture(scope="module")
def completed(tmp_path_factory) -> Completed:
    place = tmp_path_factory.mktemp("completed")
    earlier = set(psutil.Process().children(recursive=True))
    log, lines = place / "run" / "flower.log", []
    log.parent.mkdir()
    log.write_text("what an earlier run said\n", encoding="utf-8")
    status = run_app(
        written_app(place),
        {"behaviour": "client-raises", "note.text-with-hyphen": NOTE},
        supernodes=3,
        log=log,
        append=True,
        on_line=lines.append,
    )
    left = set(psutil.Process().children(recursive=True)) - earlier
    return Completed(status, lines, log.read_text(encoding="utf-8").splitlines(), left)


@pytest.mark.slow
def test_a_run_that_completes(completed):
    assert completed.status == RunStatus("finished:completed", "")
    assert completed.status.completed
    assert told(completed.lines)[:2] == [f"note {NOTE!r}", "3 of 3 replied"]
    assert completed.written == ["what an earlier run said", *completed.lines]
    assert leftovers(completed.lines) == []
    assert completed.left == set()


@pytest.mark.slow
def test_a_client_that_raises_is_told_and_the_run_goes_on(completed):
    assert completed.status.completed
    assert told(completed.lines)[2:] == [
        "a client failed: data.path = 'nowhere': no such folder",
        "2 of 3 replied",
    ]


@pytest.mark.slow
def test_a_server_that_raises_is_a_failed_run_with_its_reason(tiny, tmp_path):
    status = run_app(
        tiny, {"behaviour": "server-raises"}, supernodes=3, log=tmp_path / "flower.log"
    )
    assert not status.completed
    assert status.status == "finished:failed"
    assert status.details == "local.lr = 0: must be > 0\nrounds = 0: must be >= 1"
    assert "Traceback" in (tmp_path / "flower.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_running(tiny, tmp_path, ending):
    script = tmp_path / "run.py"
    script.write_text(
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from fl_sim.engines.flower import run_app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run_app(Path({str(tiny)!r}), {{'behaviour': 'sleep'}}, supernodes=3,\n"
        f"        log=Path({str(tmp_path / 'flower.log')!r}),\n"
        "        on_line=lambda line: print(line, flush=True))\n"
    )
    checkout = str(Path(fl_sim.__file__).parents[1])
    path = os.pathsep.join([checkout, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "client works in" in line:
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 3, "".join(lines)
        process.send_signal(ending)
        rest, _ = process.communicate(timeout=60)
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 130 or process.returncode == -signal.SIGINT, rest
    assert "fl-sim: stopping the run" in rest
    _, alive = psutil.wait_procs(family, timeout=2)
    assert alive == []
    assert leftovers(lines) == []


@pytest.mark.slow
def test_an_app_that_flower_refuses_is_one_line(tiny, tmp_path):
    broken = PROJECT.replace('serverapp = "tiny.server:app", ', "")
    (tiny / "pyproject.toml").write_text(broken)
    with pytest.raises(LaunchError, match=r"flwr run refused the app: .*serverapp") as caught:
        run_app(tiny, {}, supernodes=3, log=tmp_path / "flower.log")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_an_unknown_key_is_refused(tiny, tmp_path):
    with pytest.raises(LaunchError, match="flwr run refused the app"):
        run_app(tiny, {"nosuch": 1}, supernodes=3, log=tmp_path / "flower.log")


def test_a_missing_flower_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(flower.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="flower-superlink is not installed"):
        run_app(tiny, {}, supernodes=3, log=tmp_path / "flower.log")


def test_a_superlink_that_dies_tells_why(tiny, tmp_path, monkeypatch):
    false = tmp_path / "flower-superlink"
    false.write_text("#!/bin/sh\necho starting\necho cannot bind the port\nexit 3\n")
    false.chmod(0o755)
    monkeypatch.setattr(flower.sysconfig, "get_path", lambda name: str(tmp_path))
    before = time.monotonic()
    with pytest.raises(LaunchError, match=r"did not start.*: cannot bind the port$"):
        run_app(tiny, {}, supernodes=3, log=tmp_path / "flower.log")
    assert time.monotonic() - before < 10


def test_the_bundle_holds_every_file_that_the_packages_read(root):
    # Flower bundles few kinds of files and says nothing of those that it leaves out.
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(root))) as bundle:
        there = set(bundle.namelist())
    needed = {
        str(file.relative_to(root))
        for package in ("adversary", "strategies", "fl_sim")
        for file in (root / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != "py.typed"
    }
    assert needed - there == set()
