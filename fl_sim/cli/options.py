"""What the command line is given: files, --set, paths."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adversary.common.convert import Value
    from fl_sim.settings.schema import Settings


class Engine(StrEnum):
    """What carries the messages between server and clients."""

    flower = "flower"
    local = "local"


class UsageError(ValueError):
    """A mistake on the command line or in a settings file; a line each."""


class RunFailedError(RuntimeError):
    """The run did not come to its regular end; a line for each reason."""


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
]


def read_config(path: Path | None) -> dict[str, Value]:
    """Return the settings of a TOML file, its tables flattened as Flower does."""
    from fl_sim.cli.shipped import settings_file
    from fl_sim.settings.parse import flatten_toml

    if path is None:
        return {}
    try:
        document = tomllib.loads(settings_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--config {path}: not a TOML file: {error}") from error
    return dict(flatten_toml(document))


def parse_changes(pairs: Sequence[str] | None) -> dict[str, Value]:
    """Return ``KEY=VALUE`` pairs with the values in the types that the settings declare."""
    from adversary.common.convert import from_text
    from fl_sim.settings.declared import declared_settings

    kinds = {one.key: one.kind for one in declared_settings()}
    changes: dict[str, Value] = {}
    wrong = []
    for pair in pairs or ():
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not (key and equals):
            wrong.append(f"--set {pair}: must be KEY=VALUE")
        else:
            changes[key] = from_text(text, kinds.get(key, str))
    if wrong:
        raise UsageError("\n".join(wrong))
    return changes


def with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings with their paths made absolute: the run has a folder of its own."""
    from fl_sim.settings.names import IMAGENET

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute()) if path else path

    path = settings.data.path
    of_hub = settings.data.name == "huggingface" and not Path(path).expanduser().exists()
    data = dataclasses.replace(settings.data, path=path if of_hub else absolute(path))
    start_image = absolute(settings.adversary.start_image)
    adversary = dataclasses.replace(settings.adversary, start_image=start_image)
    weights = settings.model.weights
    model = dataclasses.replace(
        settings.model, weights=weights if weights == IMAGENET else absolute(weights)
    )
    return dataclasses.replace(
        settings, out=absolute(settings.out), data=data, model=model, adversary=adversary
    )
