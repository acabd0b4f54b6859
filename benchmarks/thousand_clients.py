"""Time and memory of the server in a federation of a thousand clients.

Run as ``python -m benchmarks thousand_clients``. Phantom X-rays; in a round 1 % of the
clients train, 1 % evaluate, and two are attacked. While Flower runs, the resident memory of its
ServerApp is read twice a second. The last line is JSON {"clients", "rounds", "seconds",
"peak_mib", "growth_mib_per_round", "report_mb", "attacked", "rows": [{round, peak_mib}]}: growth
is the slope of a straight line through the peaks of the later half of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from adversary.report.run_folder import RunFolder
from benchmarks import common
from fl_sim.cli import main as fl_sim

PERIOD = 0.5  # seconds between looks
MIB = 2**20


class Watch(threading.Thread):
    """Peak resident memory of the ServerApp's process, by the number of rounds completed."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.rounds = out / "rounds.csv"
        self.peaks: dict[int, float] = {}
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        server: psutil.Process | None = None
        while not self.over.wait(PERIOD):
            try:
                server = server or _server()
                size = server.memory_info().rss / MIB if server is not None else 0.0
                done = self.rounds.read_text().count("\n") - 1 if self.rounds.exists() else 0
            except psutil.Error:
                continue
            if size:
                self.peaks[done] = max(size, self.peaks.get(done, 0.0))


def _server() -> psutil.Process | None:
    """Return the process, among those that this one started, in which Flower runs the ServerApp."""
    for process in psutil.Process().children(recursive=True):
        if any("flwr-simulation" in word for word in process.cmdline()):
            return process
    return None


def measured(given: argparse.Namespace, out: Path) -> dict[str, Any]:
    settings = {
        "clients": given.clients,
        "rounds": given.rounds,
        "strategy.fraction": given.fraction,
        "strategy.evaluate-fraction": given.fraction,
        "data.name": "phantom",
        "data.num-images": 4 * given.clients,
        "data.test-fraction": 0.05,
        "adversary.options": "dlg.iterations=20",
        "adversary.clients": given.attacked,
        "adversary.bounds": "off",
    }
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    watch = Watch(out)
    watch.start()
    began = time.monotonic()
    if fl_sim(["run", "--config", "configs/quick.toml", "--out", str(out), *flags]):
        raise SystemExit("the run failed")
    seconds = time.monotonic() - began
    watch.over.set()
    watch.join()
    rows = [{"round": done, "peak_mib": peak} for done, peak in sorted(watch.peaks.items())]
    later = rows[len(rows) // 2 :]
    slope = np.polyfit([r["round"] for r in later], [r["peak_mib"] for r in later], 1)[0]
    folder = RunFolder.open(out)
    return {
        "clients": given.clients,
        "rounds": len(folder.rounds()),
        "seconds": seconds,
        "peak_mib": max(watch.peaks.values()),
        "growth_mib_per_round": float(slope),
        "report_mb": (out / "report.html").stat().st_size / 1e6,
        "attacked": len(folder.leakage()),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--fraction", type=float, default=0.01, help="of the clients, a round")
    parser.add_argument("--attacked", type=int, default=2, help="clients attacked a round")
    parser.add_argument("--out", type=Path, help="folder to keep the run in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        common.json_line(measured(given, given.out or Path(place) / "run"))


if __name__ == "__main__":
    main()
