"""Folders of four kinds of run, which a reader asks the same five questions of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adversary.common.results import Reconstruction
from adversary.report.pictures import draw
from adversary.storage import csv_table
from adversary.storage.run_folder import RunFolder
from adversary.storage.schemas import IDENTIFICATION
from helpers.run_folders import fill, rand

ABOUT: dict[str, Any] = {
    "title": "chest-x-rays-of-spring",
    "started": "2026-05-01T10:00:00+00:00",
    "clients": {"client-00": 1, "client-01": 16, "client-02": 100, "client-03": 283},
    "hospitals": {"client-00": "St Mary", "client-01": "University hospital"},
    "data": {
        "name": "kermany", "attribution": "Kermany et al., Mendeley Data, CC BY 4.0",
        "private": 400, "public": 20,
    },
    "settings": {
        "rounds": 3, "data.image-size": 64, "local.batch-size": 8, "local.max-steps": 0,
        "local.epochs": 1, "model.name": "convnet", "model.activation": "gelu",
        "adversary.attack": "standard", "adversary.effort": "quick", "out": "results/spring",
    },
    "versions": {"fl-sim": "0.1.0"},
    "defence": {"name": "none"},
    "candidates": 6,
}  # fmt: skip


def visible(path: Path) -> RunFolder:
    """Return a run in which patients are visible, and others can be named."""
    folder = fill(RunFolder.create(path, **ABOUT), rounds=3, clients=list(ABOUT["clients"]))
    named = [
        {"round": None, "client": client, "members": members, "candidates": 400, "tpr_1": 1.0,
         "auc": 1.0}
        for client, members in ABOUT["clients"].items()
    ]  # fmt: skip
    table = folder.path / "identification.csv"
    csv_table.create(table, IDENTIFICATION)
    csv_table.append(table, IDENTIFICATION, named)
    folder.finish("completed")
    return folder


def private(path: Path) -> RunFolder:
    """Return a run with DP-SGD whose bound is near chance."""
    about = ABOUT | {"defence": {"name": "dp-sgd", "protects": "Each X-ray, by noise."}}
    about["settings"] = ABOUT["settings"] | {"defence.options": "epsilon=3"}
    folder = fill(RunFolder.create(path, **about), rounds=1, noise=2.0, bound_psnr=10.0)
    folder.add_account(
        round=1, client="client-00", rounds=1, epsilon=3.0, delta=1e-5, unit="example",
        neighbours="add or remove one", accountant="RDP (opacus)",
        against="everyone who sees updates or models, the server included",
    )  # fmt: skip
    return folder


def poor(path: Path) -> RunFolder:
    """Return a run whose attacks got little below a high bound, with a defence that earns no ε."""
    about = ABOUT | {"defence": {"name": "gaussian-noise"}, "oracles": ["labels known"]}
    folder = fill(RunFolder.create(path, **about), rounds=1, noise=4.0, bound_psnr=46.5)
    folder.add_failure(1, "client-02", "standard", "ran out of memory")
    return folder


def blind(path: Path) -> RunFolder:
    """Return a run without the true images."""
    folder = RunFolder.create(path, **ABOUT)
    for client in ABOUT["clients"]:
        found = Reconstruction(
            images=rand(2, 1, 16, 16), labels=torch.tensor([0, 1]), score=0.06, seconds=1,
            evaluations=5, certificate="open",
        )  # fmt: skip
        folder.add_reconstruction(1, client, "standard", found, drawn=draw(found))
    return folder


KINDS: dict[str, Callable[[Path], RunFolder]] = {
    one.__name__: one for one in (visible, private, poor, blind)
}
"""By a word for each, what writes the folder."""
