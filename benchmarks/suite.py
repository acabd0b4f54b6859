"""Every claim about speed and scale, measured anew: ``make bench``.

Runs one script a claim, in turn and each in a process of its own, writes the last line of each to
``results/bench/NAME.json`` and draws ``results/bench/performance.png``. What cannot run here, for
want of a package, a file or a GPU, is said in a line and leaves the file of an earlier run alone.
The machine should have nothing else to do: times are those of the wall.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adversary.report.files import replacing

Found = dict[str, Any]
"""The last line of a benchmark."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A benchmark, how it is called, and what of it goes into the picture."""

    name: str
    arguments: tuple[str, ...] = ()
    gpu: bool = False
    draw: Callable[[Axes, Found], None] | None = None

    @property
    def module(self) -> str:
        """The script's name."""
        return self.name.removesuffix("_gpu")


def _beside(axes: Axes, found: Found) -> None:
    parts = {"training": "training", "attacks": "attacks", "both": "beside"}
    axes.bar(list(parts), [found[key] for key in parts.values()], color="#3b6ea5")
    axes.set(ylabel="s", title=f"attacks beside training: {found['ratio']:.2f}")


def _memory(axes: Axes, found: Found) -> None:
    rows = found["rows"]
    axes.plot([r["round"] for r in rows], [r["peak_mib"] for r in rows], color="#3b6ea5")
    axes.set(xlabel="round", ylabel="MiB", ylim=(0, None))
    axes.set_title(f"server of {found['clients']:,} clients")


def _evaluations(axes: Axes, found: Found) -> None:
    _pairs(axes, found, "evaluations_per_second", "evaluations a second")


def _target(axes: Axes, found: Found) -> None:
    best: dict[tuple[str, int, str], Found] = {}
    for row in filter(lambda row: row["reached"], found["rows"]):
        key = row["model"], row["batch"], row["who"]
        best[key] = min(row, best.get(key, row), key=lambda one: one["seconds"])
    _pairs(axes, {"rows": list(best.values())}, "seconds", f"seconds to {found['target']:.0f} dB")


def _pairs(axes: Axes, found: Found, figure: str, title: str) -> None:
    """Draw a figure of ours and of the breaching package side by side."""
    settings = list(dict.fromkeys((r["model"], r["batch"]) for r in found["rows"]))
    for shift, who, colour in ((-0.2, "fl-sim", "#3b6ea5"), (0.2, "breaching", "#b9b9b9")):
        own = {(r["model"], r["batch"]): r[figure] for r in found["rows"] if r["who"] == who}
        places = [place + shift for place, key in enumerate(settings) if key in own]
        heights = [own[key] for key in settings if key in own]
        axes.bar(places, heights, width=0.4, label=who, color=colour)
    axes.set_xticks(range(len(settings)), [f"{m}, {b}" for m, b in settings], rotation=30)
    axes.set_title(title)
    axes.legend(frameon=False)


CLAIMS = (
    Claim(name="evaluation_speed", arguments=("--iterations", "100", "--batch", "1")),
    Claim(name="versus_breaching", arguments=("--model", "lenet,convnet"), draw=_evaluations),
    Claim(name="time_to_target", arguments=("--model", "lenet,convnet"), draw=_target),
    Claim(name="beside_training", draw=_beside),
    Claim(name="thousand_clients", draw=_memory),
    Claim(
        name="evaluation_speed_gpu",
        arguments=("--device", "cuda", "--size", "224", "--model", "resnet18,densenet121"),
        gpu=True,
    ),
)


def measure(claim: Claim, folder: Path) -> str | None:
    """Run a benchmark and keep what it printed; return why not in a line, if not."""
    if claim.gpu and not torch.cuda.is_available():
        return "no CUDA GPU here"
    command = [sys.executable, "-m", "benchmarks", claim.module, *claim.arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        told = done.stderr.strip().splitlines()
        return told[-1] if told else f"exit code {done.returncode}"
    about = {"command": " ".join(["python", *command[1:]]), "torch": torch.__version__}
    with replacing(folder / f"{claim.name}.json") as path:
        path.write_text(json.dumps(about | json.loads(lines[-1]), indent=1) + "\n")
    return None


def draw(folder: Path) -> None:
    """Draw what there is, a panel a claim."""
    kept = [(claim, folder / f"{claim.name}.json") for claim in CLAIMS if claim.draw]
    kept = [(claim, path) for claim, path in kept if path.exists()]
    figure = Figure(figsize=(3.4 * max(len(kept), 1), 3), layout="constrained")
    panels = figure.subplots(1, max(len(kept), 1), squeeze=False)[0]
    for axes, (claim, path) in zip(panels, kept, strict=False):
        assert claim.draw is not None
        claim.draw(axes, json.loads(path.read_text()))
    with replacing(folder / "performance.png") as path:
        figure.savefig(path, dpi=100, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [claim.name for claim in CLAIMS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for claim in CLAIMS:
        if claim.name not in given.only:
            continue
        began = time.monotonic()
        reason = measure(claim, given.out)
        failed |= reason is not None and not claim.gpu
        print(f"{claim.name}: {reason or f'{time.monotonic() - began:.0f} s'}", flush=True)
        draw(given.out)
    print(given.out / "performance.png")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
