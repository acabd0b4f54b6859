"""Whether the strongest attack comes up to the bound, setting by setting, and in what time.

Run as ``python -m benchmarks attack_meets_bound --data pneumoniamnist.npz --kermany images.zip
--nih FOLDER --json``; ``--rows "batch of 4,one image, 224x224"`` or ``--networks tanh`` for a part.
A row is a setting of :data:`SETTINGS` and a network, ConvNets at their first weights with a binary
head; each has :data:`UPDATES` updates of other patients and other first weights, attacked by
``standard`` or, in the rows that say so, by ``encoder`` alone, with one thread and with no limit of
time. Every update is attacked in a process of its own, after a small one that loads all code, so
that time and memory are those of the attack.

Each update is kept in ``--out`` as soon as it was attacked, and not attacked again: the same
command goes on where it was stopped. The last line is JSON {"rows": [{setting, network, size,
attack, data, updates, psnr, bound, seconds, cpu_seconds, memory_gb, proved, failures}]}: ``psnr``,
``bound``, ``seconds``, ``cpu_seconds`` and ``memory_gb`` have mean and standard deviation over
updates, ``psnr`` and ``bound`` of an update being the mean over its images; ``bound`` is null where
it was not worked out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import resource
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from adversary import Observation, ThreatModel, TrainingRecipe, attacks
from adversary.bounds.cramer_rao import BoundBudget, BoundError, cramer_rao_bound
from adversary.common.results import Reconstruction
from adversary.common.seeding import derive_seed
from adversary.common.truth import Truth
from adversary.priors.public import Prior
from adversary.problem.problem import Problem, build_problem
from adversary.scoring.metrics import match_images, psnr
from benchmarks import common
from benchmarks.certificates import MOST
from benchmarks.updates import Place, Source, update
from fl_sim.models import create

UPDATES = 6
"""Updates of a row."""

PUBLIC = 64
"""Public X-rays of the attacker."""

BOUND_SIZE = 32
"""Pixels a side up to which the bound is worked out."""

BOUND_WORK = 5e12
"""Multiplications that a bound may take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A row of the table, of each network.

    Parameters
    ----------
    case : str
        A key of :data:`benchmarks.updates.CASES` or :data:`~benchmarks.updates.FURTHER`; empty for
        the gradient of one image.
    size : int
        Pixels a side.
    data : {"pneumoniamnist", "kermany", "nih"}
        Whose X-rays.
    attack : str
        A key of :data:`adversary.attacks.ATTACKS`.
    networks : tuple of str
        Keys of :data:`ACTIVATIONS`.
    aim : float
        PSNR in dB that is to be reached.
    seconds : float
        Within which, with one thread.
    """

    case: str = ""
    size: int = 32
    data: str = "pneumoniamnist"
    attack: str = "standard"
    networks: tuple[str, ...] = ("tanh", "GELU")
    aim: float = 0.0
    seconds: float = math.inf


ACTIVATIONS = {"tanh": "tanh", "SiLU": "silu", "GELU": "gelu"}
"""Of ConvNets, by the network's name here and, but for SiLU, in the benchmark of updates."""


def _one_image(size: int, data: str, attack: str, seconds: float) -> dict[str, Setting]:
    name = f"one image, {size}x{size}" + ("" if data == "pneumoniamnist" else f", {data}")
    name += "" if attack == "standard" else f": {attack}"
    networks = tuple(ACTIVATIONS)
    setting = Setting(
        size=size, data=data, attack=attack, networks=networks, aim=100.0, seconds=seconds
    )
    return {name: setting}


SETTINGS: dict[str, Setting] = {
    "signs": Setting(case="signs"),
    "top 1 %": Setting(case="top 1 %", aim=80),
    "clipped batch of 4": Setting(case="clipped batch of 4", aim=60, seconds=25),
    "batch of 4": Setting(case="batch of 4", aim=90),
    "batch of 8": Setting(case="batch of 8", aim=60),
    "batch of 16": Setting(case="batch of 16", aim=30),
    "secure aggregation of 4": Setting(case="aggregate of 4", aim=80),
    "secure aggregation of 8": Setting(case="aggregate of 8", aim=40),
    "4 local steps": Setting(case="4 local steps", aim=90),
    "8 local steps": Setting(case="8 local steps", aim=60),
    "4 local steps of 2": Setting(case="4 local steps of 2", aim=60),
    "MixUp of 2": Setting(case="MixUp"),
    **_one_image(32, "pneumoniamnist", "encoder", 1),
    **_one_image(64, "kermany", "encoder", 5),
    **_one_image(224, "kermany", "encoder", 60),
    **_one_image(224, "nih", "encoder", 60),
    **_one_image(512, "nih", "encoder", 360),
    **_one_image(32, "pneumoniamnist", "standard", math.inf),
    **_one_image(64, "kermany", "standard", math.inf),
    **_one_image(224, "kermany", "standard", math.inf),
    **_one_image(224, "nih", "standard", math.inf),
}
"""By name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """Where X-rays lie.

    Parameters
    ----------
    pneumoniamnist : Path
        The npz file of MedMNIST.
    kermany : Path, optional
        Kermany's zip file.
    nih : Path, optional
        A folder of single X-rays of the NIH as PNG files; the public ones are Kermany's.
    """

    pneumoniamnist: Path
    kermany: Path | None = None
    nih: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One update to attack.

    Parameters
    ----------
    setting, network : str
        Keys of :data:`SETTINGS` and of :data:`ACTIVATIONS`.
    repeat : int
        From 0.
    """

    setting: str
    network: str
    repeat: int


def single(task: Task, files: Files) -> tuple[Problem, Truth]:
    """Return the gradient of one image at first weights, and the image."""
    setting = SETTINGS[task.setting]
    images, labels, public = _xrays(setting, files, task.repeat)
    model = create(
        "convnet",
        channels=1,
        image_size=setting.size,
        outputs=2,
        activation=ACTIVATIONS[task.network],
        seed=derive_seed(common.SEED, "victim", task.repeat),
    ).eval()
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, parameters)
    seen = Observation(
        round=1,
        client="client",
        sent={name: value.clone() for name, value in model.state_dict().items()},
        returned=dict(zip(names, gradient, strict=True)),
        num_examples=1,
        recipe=TrainingRecipe(lr=1.0, batch_size=1, update="gradient", batch_norm="eval"),
    )
    shape = (1, setting.size, setting.size)
    posed = build_problem(seen, ThreatModel(), model, image_shape=shape, prior=Prior(public))
    return posed, Truth(images=images, labels=labels, names=(str(task.repeat),))


def _xrays(setting: Setting, files: Files, repeat: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image of a repeat, (1, 1, S, S), its label, and the public images."""
    path = files.pneumoniamnist if setting.data == "pneumoniamnist" else files.kermany
    if path is None:
        raise SystemExit(f"--rows: {setting.data} X-rays need --kermany")
    public, _ = common.labelled(path, "val", PUBLIC, setting.size)
    if setting.data != "nih":
        images, labels = common.labelled(path, "train", repeat + 1, setting.size)
        return images[-1:], labels[-1:], public
    if files.nih is None or not (found := sorted(files.nih.glob("*.png"))):
        raise SystemExit("--rows: nih X-rays need --nih, a folder with PNG files")
    with Image.open(found[repeat % len(found)]) as picture:
        pixels = pil_to_tensor(picture.convert("L"))[None].float() / 255
    size = (setting.size, setting.size)
    image = torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    return image.clamp(0, 1), torch.tensor([repeat % 2]), public


def federated(task: Task, files: Files) -> tuple[Problem, Truth]:
    """Return the update of a client in the first round, and its images."""
    setting = SETTINGS[task.setting]
    source = Source(name="pneumoniamnist", path=str(files.pneumoniamnist), public=PUBLIC)
    place = Place(
        case=setting.case, network=task.network, size=setting.size, seed=1 + task.repeat, round=1
    )
    posed = update(place, source)
    run, seen = posed.run, posed.observation
    model, shape = run.model(), posed.images.shape[1:]
    known = run.threat_model(seen)
    problem = build_problem(
        seen, known, model, image_shape=(shape[0], shape[1], shape[2]), prior=run.prior()
    )
    truth = run.truth(seen)
    assert truth is not None  # of every client of this project's own
    return problem, truth


def examined(task: Task, files: Files) -> dict[str, Any]:
    """Attack an update, and return its key with what came of it; a line of the file."""
    torch.set_num_threads(1)
    setting = SETTINGS[task.setting]
    attack = attacks.create(setting.attack)
    _ = attack.run(single(Task(setting=_SMALLEST, network=task.network, repeat=0), files)[0])
    problem, truth = federated(task, files) if setting.case else single(task, files)
    if problem.prior is not None:
        _ = problem.prior.gaussian  # of all updates together, not of this one
    wall, cpu = time.monotonic(), time.process_time()
    try:
        found = attack.run(problem, seed=task.repeat)
    except attacks.AttackError as error:
        return dataclasses.asdict(task) | {"failure": str(error)}
    return dataclasses.asdict(task) | {
        "psnr": reached(found, truth),
        "seconds": time.monotonic() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "expected": list(found.expected_psnr or ()),
        "certificate": found.certificate,
        "member": found.member,
        "bound": bound(problem, truth) if setting.size <= BOUND_SIZE else None,
    }


_SMALLEST = "one image, 32x32: encoder"


def reached(found: Reconstruction, truth: Truth) -> float:
    """Return the mean PSNR over the true images, each beside the reconstruction matched to it."""
    order = match_images(found.images, truth.images)
    if None in order:
        return 0.0
    each = psnr(found.images[[i for i in order if i is not None]], truth.images)
    return float(each.clamp(max=MOST).mean())


def bound(problem: Problem, truth: Truth) -> float | None:
    """Return the mean PSNR that no attack is expected to exceed; None where there is none."""
    if problem.prior is None:
        return None
    budget = BoundBudget(work=BOUND_WORK)
    try:
        found = cramer_rao_bound(problem, truth, problem.prior.gaussian, budget=budget)
    except BoundError:
        return None
    return float(found.psnr.mean())


def tasks(rows: Sequence[str], networks: Sequence[str], updates: int) -> list[Task]:
    """Return the tasks of some rows, one update of each row after the other."""
    return [
        Task(setting=name, network=network, repeat=repeat)
        for repeat in range(updates)
        for name in rows
        for network in SETTINGS[name].networks
        if network in networks
    ]


def measure(todo: Sequence[Task], files: Files, path: Path) -> Iterator[dict[str, Any]]:
    """Attack what is not in the file yet, add each line as it is known, and yield it."""
    done = {json.dumps(_key(line)) for line in common.read_rows(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for task in todo:
        if json.dumps(dataclasses.asdict(task)) in done:
            continue
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as alone:
            line = alone.submit(examined, task, files).result()
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        yield line


def _key(line: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: line[field.name] for field in dataclasses.fields(Task)}


def summary(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the table, of lines of the file."""
    rows = []
    for name, setting in SETTINGS.items():
        for network in setting.networks:
            own = [o for o in lines if (o["setting"], o["network"]) == (name, network)]
            good = [line for line in own if "psnr" in line]
            if own:
                figures = ("psnr", "bound", "seconds", "cpu_seconds", "memory_gb")
                rows.append(
                    {
                        "setting": name,
                        "network": network,
                        "size": setting.size,
                        "attack": setting.attack,
                        "data": setting.data,
                        "updates": len(own),
                        **{figure: spread([one[figure] for one in good]) for figure in figures},
                        "proved": sum(one["certificate"] == "proved" for one in good),
                        "failures": len(own) - len(good),
                    }
                )
    return rows


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Return mean and standard deviation of values; None where one is missing."""
    told = [value for value in values if value is not None]
    if not told or len(told) < len(values):
        return None
    deviation = statistics.stdev(told) if len(told) > 1 else 0.0
    return {"mean": statistics.fmean(told), "std": deviation}


def names(known: Sequence[str], text: str) -> list[str]:
    """Return what of the known names a list joined by ";" asks for; all where it is empty."""
    wanted = [part.strip() for part in text.split(";") if part.strip()]
    for name in wanted:
        if name not in known:
            raise SystemExit(f"{name!r} is none of {'; '.join(known)}")
    return wanted or list(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="PneumoniaMNIST's npz file")
    parser.add_argument("--kermany", type=Path, help="Kermany's zip file, for rows of 64x64 on")
    parser.add_argument("--nih", type=Path, help="folder of X-rays of the NIH as PNG files")
    parser.add_argument("--rows", default="", help='settings, joined by ";"; all by default')
    parser.add_argument("--networks", default="", help='joined by ";"; all by default')
    parser.add_argument("--updates", type=int, default=UPDATES, help="of each row")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmarks/results/attack_meets_bound.jsonl"),
        help="where a line for each update is kept",
    )
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    given = parser.parse_args()
    files = Files(pneumoniamnist=given.data, kermany=given.kermany, nih=given.nih)
    rows, networks = names(list(SETTINGS), given.rows), names(list(ACTIVATIONS), given.networks)
    for line in measure(tasks(rows, networks, given.updates), files, given.out):
        if not given.json:
            print(", ".join(f"{key} {value}" for key, value in line.items()), flush=True)
    common.json_line({"rows": summary(common.read_rows(given.out)), "torch": torch.__version__})


if __name__ == "__main__":
    main()
