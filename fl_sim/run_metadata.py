"""What run.json tells of a run before its first round."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from adversary.storage.run_folder import RunFolder
from fl_sim.client_names import client_name
from fl_sim.federation import Federation
from fl_sim.settings.parse import flatten
from fl_sim.settings.schema import Settings
from fl_sim.training.evaluation import any_class_has_both

PACKAGES = (
    "fl-sim",
    "flwr",
    "ray",
    "torch",
    "torchvision",
    "torchmetrics",
    "lpips",
    "numpy",
    "opacus",
)


def describe(run: Federation) -> dict[str, Any]:
    """Return the entries of run.json that follow from a run's parts."""
    settings, private = run.settings, run.splits.private
    return {
        **environment(settings, run.device),
        "data": {
            "name": private.name,
            "attribution": private.attribution,
            "synthetic": private.synthetic,
            "label_names": private.label_names,
            "private": len(private),
            "public": len(run.splits.public),
            "test": len(run.splits.test),
            "evaluated_on": run.evaluation_split,
        },
        "clients": {client_name(i): len(part) for i, part in enumerate(run.parts)},
        "validation": {client_name(i): len(part) for i, part in enumerate(run.validation)}
        if settings.data.validation_fraction
        else {},
        "recipe": dataclasses.asdict(run.recipe),
        "candidates": len(set(private.patients)),
        "threat": {
            "view": run.defence.view,
            "labels_known": settings.adversary.labels_known,
            "defence_known": settings.adversary.defence_known,
        },
        "oracles": oracles(run),
        "defence": {
            "name": settings.defence.name,
            "protects": run.defence.protects,
            "alters_updates": run.defence.alters_updates,
            **run.defence.describe(),
        },
    }


def environment(settings: Settings, device: torch.device) -> dict[str, Any]:
    """Return the entries that tell with what, and where, something was computed."""
    return {
        "settings": flatten(settings),
        "seed": settings.seed,
        "versions": _versions(),
        "revision": _revision(),
        "device": str(device),
    }


def oracles(run: Federation) -> list[str]:
    """Return in words what the attacker is granted beyond what a server has."""
    return ["labels known"] if run.settings.adversary.labels_known else []


def privacy(run: Federation) -> str:
    """Return in a line the weakest epsilon that clients end with; empty where one earns none."""
    rounds = run.settings.rounds
    clients = {len(part): client for client, part in enumerate(run.parts)}  # one of each size
    found = [run.account(client, rounds) for client in clients.values()]
    spent = [one for one in found if one is not None and math.isfinite(one.epsilon)]
    if len(spent) < len(found):
        return ""
    worst = max(spent, key=lambda one: one.epsilon)
    return (
        f"defence.name = {run.settings.defence.name!r}: epsilon {worst.epsilon:,.3g} at delta "
        f"{worst.delta:.1e} for one {worst.unit}, of a client that trains in {rounds} "
        f"round{'' if rounds == 1 else 's'}, against {worst.against}"
    )


def note_missing(folder: RunFolder, run: Federation) -> None:
    """Say in run.json why columns of this run will be empty."""
    reasons = {}
    if any(run.account(client, rounds=1) is None for client in range(len(run.parts))):
        reasons["epsilon"] = reasons["delta"] = (
            f"the defence {run.settings.defence.name}, as it is set here, earns no privacy "
            "guarantee"
        )
    if not run.defence.reports_losses:
        reasons["client_loss"] = reasons["client_auc"] = (
            f"with the defence {run.settings.defence.name} clients report no losses"
        )
    elif not any(any_class_has_both(part.labels) for part in run.validation):
        reasons["client_auc"] = "no client has X-rays of both kinds to evaluate on"
    if why := run.why_not_identified:
        reasons["identification"] = why
    labels = run.evaluation_set().labels
    if not len(labels):
        reasons["loss"] = reasons["auc"] = reasons["auc_left_out"] = (
            "there are no test and no public images"
        )
    elif labels.ndim == 1 and len(labels.unique()) < 2:
        reasons["auc"] = f"the {run.evaluation_split} images are all of one class"
    folder.note_missing(**reasons)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    """Return the git revision of this code; None where it does not run from a checkout."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None  # a bundle that Flower installed, maybe below somebody else's repository
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
