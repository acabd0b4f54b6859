"""Reports that can be handed on: without pictures of patients and names of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

REDACTED = "left out"

_PATHS = {"out", "path", "start-image", "weights"}
"""Last parts of the settings that name a file or a folder."""


def is_sensitive(info: Mapping[str, Any]) -> bool:
    """Return whether a run's pages leave out pictures and names.

    The entry ``sensitive`` of run.json decides, and where there is none the run's setting.
    """
    settings = info.get("settings")
    setting = settings.get("sensitive", False) if isinstance(settings, Mapping) else False
    return bool(info.get("sensitive", setting))


def pseudonyms(truth: pd.Series) -> pd.Series:
    """Return names of true images as "X-ray 1", "X-ray 2", by first appearance."""
    numbers, _ = pd.factorize(truth)
    return pd.Series(
        [f"X-ray {number + 1}" if number >= 0 else None for number in numbers],
        index=truth.index,
        dtype="string",
    )


def contains_path(setting: str) -> bool:
    """Return whether a setting of this dotted name holds the path of a file or folder."""
    return setting.rpartition(".")[2] in _PATHS


def redact(info: Mapping[str, Any], folder_name: str) -> dict[str, Any]:
    """Return run.json without what may name a file: paths, and the words of errors."""
    data = info.get("data")
    named = {key: REDACTED for key in ("name", "attribution") if isinstance(data, Mapping)}
    return {
        **info,
        "title": folder_name,
        "data": {**data, **named} if isinstance(data, Mapping) else {},
        "reason": f"The reason is {REDACTED} here and stands in run.json.",
        "failures": [
            {**one, "reason": f"{REDACTED}, see run.json"}
            for one in info.get("failures") or ()
            if isinstance(one, Mapping)
        ],
        "missing": {},
        "settings": _without_paths(info.get("settings")),
    }


def _without_paths(settings: object) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        return {}
    return {
        key: _without_paths(value)
        if isinstance(value, Mapping)
        else REDACTED
        if contains_path(str(key)) and value
        else value
        for key, value in settings.items()
    }
