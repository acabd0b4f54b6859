"""Whether what the standard adversary states of its reconstructions is true.

Run as ``python -m benchmarks certificates --json``, on 2 idle cores with ``--jobs 2``; by default
on the X-rays that travel with the code, with ``--data pneumoniamnist.npz`` on those of
PneumoniaMNIST. Every channel of :data:`benchmarks.updates.CASES` with every network, of first and
of trained weights, labels and batches unknown to the attacker. A *false proof* is a ``proved``
reconstruction of which an image has a PSNR more than 3 dB off the one expected of it, or belongs to
no true image. Images are compared after matching.

*Impostors* are updates that cannot be explained: read with the weights of another round
(``weights``), or in their place one of another client and round (``client``) or of another
federation (``run``). None of them may be ``proved``.

Each update is kept in ``--out`` as soon as it was attacked, and not attacked again: the same
command goes on where it was stopped, and ``--out benchmarks/certificates_updates.jsonl`` where the
committed page stands. Take the lines of settings out of the file whose certificates have changed.

The last line is JSON of all updates in the file, {"rows": [{setting, updates, proved,
open, nothing, false_proofs, expected_minus_actual_db, open_expected_minus_actual_db,
beyond_mean_db}], "networks": the same by network, "total": the same of all, "impostors": [{kind,
updates, proved}], "false": the false proofs, "points": [[expected, actual, certificate]]}.
``expected_minus_actual_db`` has mean, 1 and 99 % quantile over images, of proved updates;
``beyond_mean_db`` is what reconstructions gain on average over the mean public X-ray.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import delayed
from matplotlib.figure import Figure
from torch import Tensor

from adversary import Observation
from adversary.common.files import atomic_write
from adversary.common.seeding import derive_seed
from adversary.scoring.metrics import match_images, psnr
from benchmarks import common
from benchmarks.updates import CASES, DROWNED, NETWORKS, Place, Source, Update, before, update
from fl_sim.workers.parallel import parallel_jobs
from strategies.time_left import TimeLeft

Found = Mapping[str, Any]
"""What came of one update, or the figures of several."""

WITHIN = 3.0
"""dB that the PSNR of a proved image may be off the one expected."""

MOST = 160.0
"""dB up to which errors are told: the error of a picture's own float32 values."""

SIZES = (16, 32)
"""Pixels a side; the larger of every :data:`SELDOM`-th update alone, for the time it takes."""

SELDOM = 12

ROUNDS = (1, 6)
"""Of the updates, in turn: first weights, and weights after five rounds of training."""

SHARES = {"sigmoid": 5, "tanh": 4, "GELU": 3, "ReLU": 1, "ResNet18": 1}
"""Updates of each channel at each network; attacks on those with kinks take longest."""

DEAR = ("batch of 4", "4 local steps", "aggregate of 3", "aggregate of 4")
"""Channels of which there is one update a network, and no impostor, for the time they take."""

KINDS: dict[str, str] = {
    "weights": "read with the weights of another round",
    "client": "another client's update of another round",
    "run": "an update of another federation",
}
"""Of impostors."""

COLOURS = {"proved": "#3b6ea5", "open": "#b9b9b9", "nothing": "#a31621"}
"""By certificate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One update to attack.

    Parameters
    ----------
    place : Place
        Which one.
    source : Source
        Of whose X-rays.
    effort : str
        Of the adversary.
    impostor : str
        A key of :data:`KINDS`, or empty for the update itself.
    """

    place: Place
    source: Source
    effort: str
    impostor: str = ""

    @property
    def key(self) -> dict[str, Any]:
        """What tells it from all others, as written beside what came of it."""
        return {
            **dataclasses.asdict(self.place),
            "data": self.source.name,
            "effort": self.effort,
            "impostor": self.impostor,
        }


def tasks(
    cases: Sequence[str],
    networks: Sequence[str],
    most: int,
    impostors: int,
    source: Source,
    effort: str,
) -> list[Task]:
    """Return all tasks in an order drawn once, so that any part of them stands for the whole."""
    own = [
        Task(place=_place(case, network, turn * len(cases) + number), source=source, effort=effort)
        for network in networks
        for turn in range(min(SHARES[network], most))
        for number, case in enumerate(cases)
        if not turn or case not in DEAR
    ]
    copied = sorted((task for task in own if task.place.case not in DEAR), key=_drawn)
    kinds = list(KINDS)
    false = [
        dataclasses.replace(
            copied[i % len(copied)], impostor=kinds[(i + i // len(copied)) % len(kinds)]
        )
        for i in range(min(impostors, len(kinds) * len(copied)))
    ]
    return sorted([*own, *false], key=_drawn)


def _place(case: str, network: str, number: int) -> Place:
    """Return the place of a network's update with that number, from 0."""
    turn = number // len(CASES) + number  # else every channel had its own round
    return Place(
        case=case,
        network=network,
        size=SIZES[number % SELDOM == SELDOM - 1],
        seed=1 + number,
        round=ROUNDS[turn % len(ROUNDS)],
    )


def _drawn(task: Task) -> int:
    return derive_seed(common.SEED, json.dumps(task.key))


def examined(task: Task) -> dict[str, Any]:
    """Attack an update, and return its key with what came of it; a line of the file."""
    torch.set_num_threads(1)
    began = time.monotonic()
    posed = update(task.place, task.source, task.effort)
    observation = impostor(task, posed) if task.impostor else posed.observation
    outcome = next(
        posed.run.adversary().run_attacks(observation, posed.run.threat_model(observation))
    )
    found = outcome.reconstruction
    if found is None:
        return task.key | {"failure": outcome.failure}
    prior = posed.run.prior()
    assert prior is not None
    return task.key | {
        "certificate": found.certificate,
        "member": found.member,
        "flags": list(found.flags),
        "chi_square": found.score,
        "expected": list(found.expected_psnr or ()),
        "actual": actual(found.images, posed.images),
        "mean": psnr(prior.mean.expand_as(posed.images), posed.images).tolist(),
        "seconds": time.monotonic() - began,
    }


def impostor(task: Task, posed: Update) -> Observation:
    """Return the update of a task as what it is not."""
    own, place = posed.observation, task.place
    other = next(r for r in ROUNDS if r != place.round)
    if task.impostor == "weights":
        return dataclasses.replace(own, sent=before(posed.run, other)[0])
    elsewhere = {
        "client": dataclasses.replace(place, round=other, client=place.client + 1),
        "run": dataclasses.replace(place, seed=place.seed + 1000),
    }[task.impostor]
    stranger = update(elsewhere, task.source, task.effort).observation
    return dataclasses.replace(own, returned=stranger.returned)


def actual(images: Tensor, truths: Tensor) -> list[float | None]:
    """Return the PSNR of each reconstruction beside the true image matched to it, if any."""
    found: list[float | None] = [None] * len(images)
    for truth, index in enumerate(match_images(images, truths) if len(truths) else ()):
        if index is not None:
            error = psnr(images[index : index + 1], truths[truth : truth + 1])
            found[index] = min(float(error), MOST)
    return found


def differences(one: Found) -> list[float]:
    """Return expected minus actual PSNR of each image that has one."""
    return [min(expected, MOST) - true for expected, true in stated(one) if true is not None]


def stated(one: Found) -> list[tuple[float, float | None]]:
    """Return expected and actual PSNR of each image; none where the attacker states none."""
    if not one["expected"]:
        return []
    return list(zip(one["expected"], one["actual"], strict=True))


def is_false(one: Found) -> bool:
    """Return whether an update is proved, and one of its images is not what was stated."""
    if one["certificate"] != "proved":
        return False
    return None in one["actual"] or any(abs(off) > WITHIN for off in differences(one))


def is_wrong(one: Found) -> bool:
    """Return whether something false is proved, of an update or of an impostor."""
    return one["certificate"] == "proved" if one["impostor"] else is_false(one)


def figures(found: Sequence[Found]) -> dict[str, Any]:
    """Return the figures of some updates."""
    certificates = Counter(one["certificate"] for one in found)
    proved = [one for one in found if one["certificate"] == "proved"]
    unproved = [one for one in found if one["certificate"] != "proved"]
    beyond = [
        np.mean([a for a in one["actual"] if a is not None]) - np.mean(one["mean"])
        for one in found
        if any(a is not None for a in one["actual"])
    ]
    return {
        "updates": len(found),
        "proved": len(proved),
        "open": certificates["open"],
        "nothing": certificates["nothing"],
        "false_proofs": sum(map(is_false, found)),
        "expected_minus_actual_db": _spread([d for one in proved for d in differences(one)]),
        "open_expected_minus_actual_db": _spread([d for one in unproved for d in differences(one)]),
        "beyond_mean_db": float(np.mean(beyond)) if beyond else None,
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    low, high = np.quantile(values, [0.01, 0.99])
    return {"mean": float(np.mean(values)), "q01": float(low), "q99": float(high)}


def summary(lines: Iterable[Found]) -> dict[str, Any]:
    """Return the last line of the benchmark from what came of all updates."""
    usable = [one for one in lines if "certificate" in one]
    real = [one for one in usable if not one["impostor"]]
    false = [one for one in usable if one["impostor"]]
    points = [
        [round(min(expected, MOST), 2), round(true, 2), one["certificate"]]
        for one in real
        for expected, true in stated(one)
        if true is not None
    ]
    return {
        "rows": list(_grouped(real, "case", CASES | DROWNED, "setting")),
        "networks": list(_grouped(real, "network", NETWORKS, "network")),
        "total": figures(real),
        "impostors": [
            {
                "kind": kind,
                "updates": len(own := [one for one in false if one["impostor"] == kind]),
                "proved": sum(one["certificate"] == "proved" for one in own),
            }
            for kind in KINDS
        ],
        "false": [one for one in usable if is_wrong(one)],
        "data": sorted({one["data"] for one in usable}),
        "effort": sorted({one["effort"] for one in usable}),
        "points": points,
    }


def _grouped(
    lines: Sequence[Found], field: str, names: Iterable[str], title: str
) -> Iterator[dict[str, Any]]:
    for name in names:
        if own := [one for one in lines if one[field] == name]:
            yield {title: name, **figures(own)}


def key_of(line: Found) -> str:
    """Return what tells a line of the file from all others."""
    names = [*(f.name for f in dataclasses.fields(Place)), "data", "effort", "impostor"]
    return json.dumps({name: line.get(name) for name in names}, sort_keys=True)


def measure(todo: Sequence[Task], path: Path, jobs: int, told: Callable[[str], None]) -> None:
    """Attack what is not in the file yet, and add each line as it is known."""
    done = {key_of(line) for line in common.read_rows(path)}
    left = [task for task in todo if key_of(task.key) not in done]
    countdown = TimeLeft()
    countdown.begin()
    countdown.expect((task.key["network"], task.key["case"]) for task in left)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file, parallel_jobs(jobs) as several:
        for line in several(delayed(examined)(task) for task in left):
            file.write(json.dumps(line) + "\n")
            file.flush()
            ended = countdown.finish(line["network"], line["case"], line.get("seconds", 0.0))
            told(f"{countdown.done}/{len(left)} · {_told(line)}" + (f" · {ended}" if ended else ""))


def _told(line: Found) -> str:
    """Return a line about one update."""
    whose = f"{line['case']}, {line['network']}, {line['size']}, round {line['round']}"
    if line["impostor"]:
        whose += f", impostor: {line['impostor']}"
    if "certificate" not in line:
        return f"{whose}: {line['failure']}"
    pairs = ", ".join(
        f"{expected:.1f} for {'none' if true is None else f'{true:.1f}'}"
        for expected, true in stated(line)
    )
    mark = " FALSE" if is_wrong(line) else ""
    return (
        f"{whose}: {line['certificate']}{mark} by {line['member']}, dB expected {pairs or 'none'}"
    )


def draw(points: Sequence[tuple[float, float, str]], path: Path) -> None:
    """Draw expected against actual PSNR, a point an image, with the band that proofs keep to."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    ends = (0.0, MOST)
    axes.fill_between(
        ends, [e - WITHIN for e in ends], [e + WITHIN for e in ends], color="#e8e8e8", lw=0
    )
    axes.plot(ends, ends, "k-", lw=0.7, label=f"as stated, ±{WITHIN:g} dB")
    for certificate, colour in reversed(COLOURS.items()):
        own = [(x, y) for x, y, which in points if which == certificate]
        if own:
            title = f"{certificate} ({len(own)} images)"
            axes.scatter(*zip(*own, strict=True), s=9, color=colour, label=title, linewidths=0)
    axes.set(xlabel="expected PSNR, dB", ylabel="actual PSNR, dB", xlim=ends, ylim=ends)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def page(found: Found) -> str:
    """Return docs/results/certificates.md of what the benchmark printed as its last line."""
    total = found["total"]
    impostors = sum(one["updates"] for one in found["impostors"])
    believed = sum(one["proved"] for one in found["impostors"])
    data, effort = ", ".join(found["data"]), ", ".join(found["effort"])
    parts = [
        "# Certificates tested",
        "For those who ask what an attacker's own word is worth. "
        "The standard adversary states of every reconstruction, without the truth, the PSNR that "
        "it expects and whether it is *proved*, *open* or *nothing*. Here that is held against "
        "the truth, failed attacks included. Written by `python -m benchmarks pages` from "
        "`benchmarks/results/certificates.json`, the last line of "
        "`python -m benchmarks certificates`.",
        f"Of {total['updates']} updates {total['proved']} are proved; {total['false_proofs']} of "
        f"these have an image whose PSNR is more than {WITHIN:g} dB off the one stated. Of "
        f"{impostors} impostors {believed} are proved.",
        "![Expected against actual PSNR, a point an image](certificates.png)",
        "## By setting",
        _table("setting", found["rows"]),
        "*Off*: expected minus actual PSNR in dB over images, mean and 1 to 99 % quantiles; "
        "positive where the attacker promises too much. *Beyond the mean*: by how many dB "
        "reconstructions are nearer to the patient than the mean public X-ray.",
        "## By network",
        _table("network", found["networks"]),
        "The LeNet has sigmoids; tanh, GELU and ReLU are ConvNets; ResNet18 has batch "
        "normalisation with running statistics.",
        "## Impostors",
        "\n".join(
            [
                "| what is attacked | updates | proved |",
                "| --- | --- | --- |",
                *(f"| {KINDS[o['kind']]} | {o['updates']} | {o['proved']} |"
                  for o in found["impostors"]),
            ]
        ),
        f"Data: {data}; effort: {effort}; images of 16x16 and 32x32; first weights and weights "
        "after five rounds. Of MixUp the images are the blends that the network was given.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _table(title: str, rows: Sequence[Found]) -> str:
    head = [title, "updates", "proved", "open", "nothing", "false proofs", "off, proved",
            "off, others", "beyond the mean"]  # fmt: skip
    body = [
        [
            row[title],
            *(str(row[n]) for n in ("updates", "proved", "open", "nothing", "false_proofs")),
            _off(row["expected_minus_actual_db"]),
            _off(row["open_expected_minus_actual_db"]),
            "–" if row["beyond_mean_db"] is None else _signed(row["beyond_mean_db"]),
        ]
        for row in rows
    ]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _off(spread: Found | None) -> str:
    if spread is None:
        return "–"
    low, high = _signed(spread["q01"]), _signed(spread["q99"])
    return f"{_signed(spread['mean'])} ({low} to {high})"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--data", type=Path, help="PneumoniaMNIST's npz; default: embedded X-rays")
    found.add_argument("--case", nargs="+", choices=CASES | DROWNED, default=list(CASES))
    found.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    found.add_argument("--most", type=int, default=5, help="updates of a channel and network")
    found.add_argument("--impostors", type=int, default=200, help="updates that are none")
    found.add_argument("--effort", choices=("quick", "standard", "thorough"), default="quick")
    found.add_argument("--quick", action="store_true", help="a few updates a channel, quick effort")
    found.add_argument("--jobs", type=int, default=1, help="attacks at once, a core each")
    found.add_argument("--out", type=Path, default=Path("results/certificates.jsonl"),
                       help="file of finished updates, which are not attacked again")  # fmt: skip
    found.add_argument("--picture", type=Path, help="PNG of expected against actual PSNR to write")
    found.add_argument("--json", action="store_true", help="print the last line alone")
    return found


def main() -> None:
    given = parser().parse_args()
    if given.quick:
        given.most, given.impostors, given.effort = 1, 10, "quick"
    source = Source()
    if given.data:
        source = Source(name="pneumoniamnist", path=str(given.data), images=200, public=64)
    todo = tasks(given.case, given.network, given.most, given.impostors, source, given.effort)
    measure(todo, given.out, given.jobs, lambda line: print(line, file=sys.stderr, flush=True))
    found = summary(line for line in common.read_rows(given.out) if line["effort"] == given.effort)
    if given.picture:
        draw(found["points"], given.picture)
    if not given.json:
        print(page(found))
    common.json_line(found | {"torch": torch.__version__})


if __name__ == "__main__":
    main()
