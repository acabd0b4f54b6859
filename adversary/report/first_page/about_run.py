"""A run in a line: data, hospitals, model, training, defence, adversary, date, version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversary.report.run_info import flattened, mapping, positive, trained_images

UNDEFENDED = "none"

_SHAPE = "image_shape"
"""Argument of ``strategies.curious`` that is always given."""

_ARGUMENTS = {
    "adversary.attack": "attacks",
    "local.batch-size": "batch_size",
    "local.epochs": "local_epochs",
    "local.max-steps": "max_steps",
}
"""Settings by the arguments of ``strategies.curious`` that tell the same of an app."""

_SEED = re.compile(r"seed-\d+")
_LICENCE = re.compile(r"\bCC0\b(?: \d\.\d)?|\bCC[ -]BY[-A-Z]*(?: \d\.\d)?|public domain", re.I)


@dataclass(frozen=True, kw_only=True)
class AboutRun:
    """What was run, as far as run.json tells.

    Parameters
    ----------
    title, date, version : str
        The run's name, the day it began (ISO 8601), and of this software.
    data, licence : str
        The data set, and the licence that its attribution names.
    synthetic, audit, own_app, aggregate : bool
        Whether the images are synthetic, whether this is an audit of two models, or of a Flower
        app of its own, and whether the server sees the mean of all clients only.
    hospitals, images, public, rounds : int or None
        Clients, X-rays in their training, public X-rays, and rounds of the run.
    defence, options : str
        The defence and its parameters; empty where nobody told whether there is one.
    attacks, effort : str
        The attacks asked for, and what the standard adversary may cost.
    settings : mapping
        All settings by dotted key.
    """

    title: str
    date: str
    version: str
    data: str
    licence: str
    synthetic: bool
    audit: bool
    own_app: bool
    aggregate: bool
    hospitals: int | None
    images: int | None
    public: int | None
    rounds: int | None
    defence: str
    options: str
    attacks: str
    effort: str
    settings: Mapping[str, Any]

    @property
    def defended(self) -> bool:
        """Whether there is a defence."""
        return self.defence not in ("", UNDEFENDED)

    @property
    def batch_size(self) -> int | None:
        """Images in a local step."""
        return positive(self.settings.get("local.batch-size"))

    @property
    def training(self) -> str:
        """Local training in a few words; empty where run.json does not tell."""
        if self.batch_size is None:
            return ""
        steps, epochs = (self.settings.get(f"local.{name}") for name in ("max-steps", "epochs"))
        pace = _counted(steps, "local step") or _counted(epochs, "epoch")
        batches = f"batches of {self.batch_size}"
        return f"{batches}, {pace} a round" if pace else batches

    @property
    def line(self) -> str:
        """All of it in a line."""
        size = self.settings.get("data.image-size")
        model = str(self.settings.get("model.name") or "")
        activation = self.settings.get("model.activation") if model == "convnet" else None
        parts = (
            " ".join([self.data, *([f"({self.licence})"] if self.licence else [])])
            if self.data
            else "data not told",
            _counted(self.hospitals, "hospital"),
            _counted(self.images, "X-ray"),
            f"{size}×{size} pixels" if size else "",
            f"{model} ({activation})" if activation else model,
            self.training,
            _counted(self.rounds, "round"),
            f"defence: {self.protection}",
            f"attack: {self.adversary}" if self.attacks else "",
            self.date,
            self.version,
        )
        return " · ".join(filter(None, parts))

    @property
    def conditions(self) -> str:
        """What a verdict is on: model, local training and defence."""
        model = str(self.settings.get("model.name") or "")
        return ", ".join(filter(None, [model, self.training, f"defence {self.protection}"]))

    @property
    def protection(self) -> str:
        """The defence with its parameters."""
        return f"{self.defence or 'not told'}{f' ({self.options})' if self.options else ''}"

    @property
    def adversary(self) -> str:
        """The attacks, and the effort of the standard adversary."""
        effort = f" ({self.effort} effort)" if self.effort and "standard" in self.attacks else ""
        return f"{self.attacks}{effort}"


def about_run(info: Mapping[str, Any], path: Path) -> AboutRun:
    """Return what run.json tells of the run in the folder ``path``."""
    told = flattened(mapping(info.get("settings")))
    settings = _of_an_app(told) | told
    data, versions = mapping(info.get("data")), mapping(info.get("versions"))
    defence = mapping(info.get("defence"))
    version = versions.get("fl-sim")
    attribution = str(data.get("attribution") or "")
    licence = _LICENCE.search(attribution)
    return AboutRun(
        title=run_title(str(info.get("title") or path.absolute().name), path),
        date=str(info.get("started") or "")[:10],
        version=f"fl-sim {version}" if version else "",
        data=str(data.get("name") or ""),
        licence=licence[0] if licence else "",
        synthetic=bool(data.get("synthetic")),
        audit=bool(info.get("audit")),
        own_app=_SHAPE in told,
        aggregate=mapping(info.get("threat")).get("view") == "aggregate",
        hospitals=len(mapping(info.get("clients"))) or None,
        images=trained_images(info),
        public=positive(data.get("public")),
        rounds=positive(settings.get("rounds")),
        defence=str(defence.get("name") or settings.get("defence.name") or ""),
        options=str(settings.get("defence.options") or ""),
        attacks=str(settings.get("adversary.attack") or ""),
        effort=str(settings.get("adversary.effort") or ""),
        settings=settings,
    )


def _of_an_app(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the arguments of ``strategies.curious`` tell, under the names of settings."""
    shape = told.get(_SHAPE)
    size = {"data.image-size": shape[-1]} if isinstance(shape, Sequence) and shape else {}
    return size | {key: told[name] for key, name in _ARGUMENTS.items() if name in told}


def run_title(title: str, path: Path) -> str:
    """Return a run's name; of the folder of a seed, with that of its setting."""
    if not _SEED.fullmatch(title):
        return title
    return f"{path.absolute().parent.name}, {title.replace('-', ' ')}"


def _counted(value: object, noun: str) -> str:
    number = positive(value)
    return "" if number is None else f"{number:,} {noun}{'' if number == 1 else 's'}"
