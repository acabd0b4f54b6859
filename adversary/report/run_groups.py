"""Runs that were made one by one, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adversary.report.comparison import ComparedSetting, Run
from adversary.report.redaction import REDACTED, contains_path, is_sensitive
from adversary.storage.run_folder import RunFolder

_NOT_COMPARED = {"seed", "out", "resume", "checkpoints", "sensitive", "device"}
"""Settings that may differ between runs of one and the same setting."""


def settings_of(folders: Sequence[RunFolder]) -> list[ComparedSetting]:
    """Return the settings of some runs, those that differ by their seed alone as one.

    ``parameters`` tells in what each differs from the others. Labels are the names of the
    folders, with those above them as far as it takes to tell them apart. If a run is sensitive,
    no path of data is told.

    Raises
    ------
    RunFolderError
        If a folder cannot be read.
    """
    infos = [folder.info() for folder in folders]
    chosen = [compared_settings(info) for info in infos]
    hidden = any(map(is_sensitive, infos))
    differing = {
        key
        for key in {key for one in chosen for key in one}
        if len({repr(one.get(key)) for one in chosen}) > 1
    }
    alike: dict[str, list[int]] = {}
    for place, one in enumerate(chosen):
        alike.setdefault(repr(sorted(one.items())) if one else str(place), []).append(place)
    labels = _labels(folders)
    return [
        ComparedSetting(
            label=", ".join(labels[place] for place in places),
            defence=str(chosen[places[0]].get("defence.name", "unknown")),
            parameters="; ".join(
                f"{key}={_label_setting(key, chosen[places[0]].get(key, ''), hidden)}"
                for key in sorted(differing - {"defence.name"})
            ),
            runs=tuple(Run(seed=_seed(infos[place]), path=folders[place].path) for place in places),
        )
        for places in alike.values()
    ]


def _label_setting(key: str, value: object, hidden: bool) -> object:
    return REDACTED if hidden and contains_path(key) else value


def compared_settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run in which like runs do not differ."""
    settings = info.get("settings")
    if not isinstance(settings, Mapping):
        return {}
    return {str(key): value for key, value in settings.items() if key not in _NOT_COMPARED}


def _seed(info: Mapping[str, Any]) -> int:
    seed = info.get("seed")
    return seed if isinstance(seed, int) else 0


def _labels(folders: Sequence[RunFolder]) -> list[str]:
    parts = [folder.path.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(one[-length:]) for one in parts]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{'/'.join(one)} ({place})" for place, one in enumerate(parts, 1)]
