"""What attacks beside the training cost it: wall times of the same federation three ways.

Run as ``python -m benchmarks beside_training``. Training alone, training with attacks beside it,
and the same attacks alone, each on a Ray node that gives clients one core, so that another is free
for attacks, and the store of objects that Ray has on a machine of this size: the one that Ray's
own test cluster has would be full, and stop the clients to clean up. A round's seconds are those
of rounds.csv; the wall time of a run is that between its first round and its last attack, without
the start of Flower. The last line is JSON {"training", "beside", "attacks", "ratio",
"round_alone", "round_recorded", "round_overhead", ...}: ``ratio`` is the wall time of both over
the larger of each alone, where ``--attacked`` says of how many clients updates are attacked.
``round_overhead`` is what a round with recording on and every update queued, an evaluation for
each, takes longer than one of plain FedAvg, the median over pairs of runs of the medians of their
rounds; ``overheads`` has that of each pair.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from adversary.report.run_folder import RunFolder
from benchmarks import common
from fl_sim.cli import main as fl_sim

OBJECT_STORE = 2 * 2**30
"""Bytes; Ray takes 30 % of the memory by itself."""

SETTINGS = {
    "clients": "4",
    "data.name": "phantom",
    "data.image-size": "64",
    "data.test-fraction": "0",  # the server's own evaluation is no part of either side
    "local.batch-size": "4",
    "adversary.workers": "1",
    "adversary.bounds": "off",
    "adversary.attack": "ing",
    "adversary.reading": "one-gradient",
}


def run(out: Path, **changes: Any) -> RunFolder:
    """Run a federation, and return its folder."""
    wanted = SETTINGS | {
        name.replace("__", ".").replace("_", "-"): v for name, v in changes.items()
    }
    flags = [part for name, value in wanted.items() for part in ("--set", f"{name}={value}")]
    if fl_sim(["run", "--out", str(out), *flags]):
        raise SystemExit(f"the run in {out} failed")
    return RunFolder.open(out)


def rounds(folder: RunFolder) -> list[float]:
    """Return the seconds of the rounds, but for the first, in which clients load their data."""
    return folder.rounds()["seconds"].tolist()[1:]


def median_round(folder: RunFolder) -> float:
    return statistics.median(rounds(folder))


def wall(folder: RunFolder) -> float:
    """Return the seconds from the first training to the end of the run."""
    return float(folder.info()["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--iterations", type=int, default=1, help="of each attack")
    parser.add_argument("--attacked", type=int, default=2, help="clients attacked beside training")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind for the overhead")
    given = parser.parse_args()
    common_changes = {
        "rounds": given.rounds,
        "model__name": given.model,
        "data__num_images": given.images,
        "local__max_steps": 0,
    }
    node = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": OBJECT_STORE}
    )
    os.environ["RAY_ADDRESS"] = node.address
    try:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            plain, queued = [], []
            for pair in range(given.pairs):
                alone = run(root / f"plain-{pair}", **common_changes, adversary__enabled="false")
                plain.append(median_round(alone))
                kept = run(
                    root / f"queued-{pair}",
                    **common_changes,
                    adversary__record="true",
                    adversary__options="ing.iterations=1",
                    adversary__evaluations=1,
                )
                queued.append(median_round(kept))
                print(f"a round: {plain[-1]:.1f} s alone, {queued[-1]:.1f} s queued", flush=True)
            beside = run(
                root / "beside",
                **common_changes,
                adversary__record="true",
                adversary__options=f"ing.iterations={given.iterations}",
                adversary__clients=given.attacked,
            )
            began = time.monotonic()
            if fl_sim(["attack", str(beside.path), "--jobs", SETTINGS["adversary.workers"]]):
                raise SystemExit("the attacks failed")
            attacks = time.monotonic() - began
            training, both = wall(alone), wall(beside)
    finally:
        node.shutdown()
    overheads = [with_it / without - 1 for without, with_it in zip(plain, queued, strict=True)]
    common.json_line(
        {
            "model": given.model,
            "rounds": given.rounds,
            "pairs": given.pairs,
            "attacks_run": given.rounds * given.attacked,
            "training": training,
            "attacks": attacks,
            "beside": both,
            "ratio": both / max(training, attacks),
            "round_alone": statistics.median(plain),
            "round_recorded": statistics.median(queued),
            "round_overhead": statistics.median(overheads),
            "overheads": overheads,
            "cores": os.cpu_count(),
        }
    )


if __name__ == "__main__":
    main()
