"""Run a Flower app comfortably: a SuperLink of its own, a true exit code, nothing left behind.

``flwr run`` alone starts a SuperLink that stays, runs in whatever folder that one was started in,
and exits with 0 even when the ServerApp raised. Here every run gets a SuperLink on a free port in
an empty folder with a private ``FLWR_HOME``; all of it is gone when :func:`run_app` returns.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tomli_w

from adversary.common.errors import UserError
from fl_sim.progress import PREFIX

STARTUP_SECONDS = 60.0
SHUTDOWN_SECONDS = 20.0
CONNECTION = "own"
RUN_ID = re.compile(r"Successfully started run (\d+)")
# Ray's sockets lie some 70 characters below its folder and may not exceed 107 in all.
LONGEST_TEMPORARY_FOLDER = 24


class LaunchError(UserError, RuntimeError):
    """The app could not be started; one line."""


@dataclass(frozen=True)
class RunStatus:
    """How a Flower run ended, as its SuperLink tells it.

    Attributes
    ----------
    status
        ``finished:completed``, ``finished:failed`` or ``finished:stopped``; anything else means
        that the run was lost.
    details
        The message of the exception that ended the run; empty where there is none.
    """

    status: str
    details: str

    @property
    def completed(self) -> bool:
        """Return whether the run came to its regular end."""
        return self.status == "finished:completed"


def run_app(
    root: Path,
    run_config: Mapping[str, bool | int | float | str],
    *,
    supernodes: int,
    log: Path,
    append: bool = False,
    on_line: Callable[[str], None] = lambda line: None,
) -> RunStatus:
    """Run the Flower app at ``root`` with ``supernodes`` simulated clients, and wait for its end.

    Parameters
    ----------
    root
        Folder with the app's ``pyproject.toml``.
    run_config
        Overrides of the app's run config, flat. Paths in it must be absolute: the app runs in an
        empty folder that is removed afterwards.
    supernodes
        Number of clients. Each is given one CPU, so that as many train at once as there are cores.
    log
        File that gets all of the app's output.
    append
        Whether what an earlier run wrote there stays.
    on_line
        Called with every line of output as it comes.

    Returns
    -------
    RunStatus
        The run's real status.

    Raises
    ------
    LaunchError
        If Flower cannot be started or refuses the app.
    KeyboardInterrupt
        On Ctrl-C, SIGTERM or SIGHUP, once the run is stopped and everything is cleaned up.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    mode = "a" if append else "w"
    with (
        _termination_as_interrupt(),
        _superlink() as link,
        log.open(mode, encoding="utf-8") as written,
    ):
        config = link.folder / "run.toml"
        config.write_text(tomli_w.dumps(dict(run_config)), encoding="utf-8")
        federation = f"num-supernodes={supernodes} client-resources-num-cpus=1"
        command = [
            link.program("flwr"), "run", str(root.resolve()), CONNECTION, "--stream",
            "--run-config", str(config), "--federation-config", federation,
        ]  # fmt: skip
        run_id, preamble = None, []
        with link.streaming(command) as lines:
            try:
                for line in lines:
                    written.write(line + "\n")
                    written.flush()
                    if run_id is None:
                        preamble.append(line)
                        found = RUN_ID.search(line)
                        run_id = found.group(1) if found else None
                    on_line(line)
            except BaseException:
                if run_id is not None:
                    on_line(f"{PREFIX}stopping the run")
                    link.stop(run_id)
                raise
        if run_id is None:
            raise LaunchError(f"flwr run refused the app: {_refusal(preamble)}")
        return link.status(run_id)


@dataclass(frozen=True)
class _SuperLink:
    """A running SuperLink: the environment and the private folder of its programs."""

    folder: Path
    environment: dict[str, str]

    def program(self, name: str) -> str:
        return _program(name, self.environment)

    def flwr(self, *arguments: str, timeout: float = 30.0) -> str:
        """Return what ``flwr ARGUMENTS`` writes; empty where it fails."""
        try:
            done = subprocess.run(
                [self.program("flwr"), *arguments],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout

    def status(self, run_id: str) -> RunStatus:
        """Ask for the real status of a run: the exit code of ``flwr run`` does not tell."""
        answer = self.flwr("list", CONNECTION, "--run-id", run_id, "--format", "json")
        try:
            run = json.loads(answer)["runs"][0]
        except (ValueError, LookupError, TypeError):
            return RunStatus("lost", "Flower's SuperLink ended before the run did")
        details = str(run["status-details"]).strip()
        details = details.removeprefix("Simulation failed with exception:").strip()
        return RunStatus(str(run["status"]), "" if details == "N/A" else details)

    def stop(self, run_id: str) -> None:
        """Stop a run; what does not stop is killed with the SuperLink."""
        with _without_second_interrupt():
            self.flwr("stop", run_id, CONNECTION)

    @contextmanager
    def streaming(self, command: list[str]) -> Iterator[Iterator[str]]:
        """Yield the lines that ``command`` writes, and end it with the block."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            # Out of reach of the terminal's Ctrl-C: the run is stopped before its stream.
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            yield (line.rstrip("\r\n") for line in process.stdout)
        finally:
            with _without_second_interrupt():
                process.terminate()
                _wait_or_kill(process)
                process.stdout.close()


@contextmanager
def _superlink() -> Iterator[_SuperLink]:
    """Start a SuperLink in a private folder; at the end remove it, its children and the folder."""
    folder = _temporary_folder()
    try:
        environment = _environment(folder)
        port = _free_port()
        (folder / "config.toml").write_text(
            tomli_w.dumps(
                {"superlink": {CONNECTION: {"address": f"127.0.0.1:{port}", "insecure": True}}}
            )
        )
        working = folder / "work"
        working.mkdir()
        log = folder / "superlink.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [
                    _program("flower-superlink", environment), "--insecure", "--simulation",
                    "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port),
                ],
                cwd=working,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        try:
            _wait_until_healthy(process, port, log)
            yield _SuperLink(folder, environment)
        finally:
            with _without_second_interrupt():
                _end_process_tree(process)
    finally:
        with _without_second_interrupt():
            shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of Flower's programs: private, quiet, without the network."""
    scripts = sysconfig.get_path("scripts")
    private = {
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # Clients reserve no GPU, but may use the one there is.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONUNBUFFERED": "1",
    }
    # A private Ray, unless the user names a cluster: a stale one would hang the run. Threads that
    # spin while they wait take the cores from the clients, and the other way round.
    defaults = {"RAY_ADDRESS": "local", "OMP_WAIT_POLICY": "PASSIVE"}
    return {**defaults, **os.environ, **private}


def _temporary_folder() -> Path:
    base = tempfile.gettempdir()
    short = len(base) <= LONGEST_TEMPORARY_FOLDER
    return Path(tempfile.mkdtemp(prefix="fl-sim-", dir=base if short else "/tmp")).resolve()


def _program(name: str, environment: Mapping[str, str]) -> str:
    found = shutil.which(name, path=environment["PATH"])
    if found is None:
        raise LaunchError(f"{name} is not installed: pip install 'flwr[simulation]'")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    # Never through a proxy: the address is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            suppress(urllib.error.URLError, OSError),
            opener.open(f"http://127.0.0.1:{port}/health", timeout=2.0),
        ):
            return
        time.sleep(0.1)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    why = said[-1].strip() if said else "it wrote nothing"
    raise LaunchError(f"Flower's SuperLink did not start within {STARTUP_SECONDS:g} s: {why}")


def _end_process_tree(process: subprocess.Popen[bytes]) -> None:
    """End the SuperLink; it ends its own children, and what outlives it is killed.

    The children live in sessions of their own, and nothing points to them once their parents are
    gone: so they are listed before and while the SuperLink ends.
    """
    family: set[psutil.Process] = set()
    with suppress(psutil.NoSuchProcess):
        family = _with_descendants({psutil.Process(process.pid)})
    process.terminate()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        family = _with_descendants(family)
        time.sleep(0.2)
    if process.poll() is None:
        process.kill()
    process.wait()
    _, alive = psutil.wait_procs(_with_descendants(family), timeout=SHUTDOWN_SECONDS / 4)
    for survivor in alive:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(alive, timeout=SHUTDOWN_SECONDS / 4)


def _with_descendants(family: set[psutil.Process]) -> set[psutil.Process]:
    """Return ``family`` and all that its members have started."""
    grown = set(family)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            grown.update(member.children(recursive=True))
    return grown


def _refusal(said: list[str]) -> str:
    """Return, in one line, why ``flwr run`` did not start: the text of its last box or line."""
    edges = [number for number, line in enumerate(said) if line.startswith("╭")]
    text = " ".join(said[edges[-1] + 1 :] if edges else said[-1:])
    return " ".join(re.sub("[│╰─╯]", " ", text).removeprefix("Error: ").split())


def _wait_or_kill(process: subprocess.Popen[Any]) -> None:
    try:
        process.wait(SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind the stack as Ctrl-C does, unless under nohup."""
    ending = [signal.SIGTERM, signal.SIGHUP]
    heeded = [number for number in ending if signal.getsignal(number) is signal.SIG_DFL]
    with _handling(signal.default_int_handler, *heeded):
        yield


@contextmanager
def _without_second_interrupt() -> Iterator[None]:
    """Let no second Ctrl-C cut the clean-up short; every step of it has a time limit."""
    with _handling(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handling(handler: Any, *signals: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
