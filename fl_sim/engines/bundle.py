"""The app as Flower bundles it: from a checkout as it is, from an installed package on the spot."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import tomli_w

import fl_sim

PACKAGES = ("adversary", "fl_sim", "strategies")
SUFFIXES = frozenset({".py", ".json", ".toml"})
"""Of files that the app needs; all are of kinds that Flower takes into a bundle."""

COMPONENTS = {"serverapp": "fl_sim.server_app:app", "clientapp": "fl_sim.client_app:app"}
PUBLISHER = "fl-sim"


def checkout() -> Path | None:
    """Return the folder of the checkout that fl_sim lies in; None where it was installed."""
    root = Path(fl_sim.__file__).resolve().parents[1]
    project = root / "pyproject.toml"
    if not project.is_file():
        return None
    tool: Any = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    return root if "app" in tool.get("flwr", {}) else None


@contextmanager
def app_root() -> Iterator[Path]:
    """Yield a folder that ``flwr run`` can bundle, for as long as the block lasts."""
    root = checkout()
    if root is not None:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="fl-sim-app-") as folder:
        write_app(Path(folder))
        yield Path(folder)


def write_app(folder: Path) -> None:
    """Write the app into an empty folder: its packages, and a pyproject.toml that runs them."""
    for name in PACKAGES:
        package = Path(str(import_module(name).__file__)).parent
        for file in package.rglob("*"):
            if file.suffix in SUFFIXES and "__pycache__" not in file.parts:
                target = folder / name / file.relative_to(package)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(_project()), encoding="utf-8")


def _project() -> dict[str, Any]:
    """Return the app's pyproject.toml; nothing is installed for it, all of it is there."""
    from fl_sim.settings.declared import defaults

    about = metadata.metadata("fl-sim")
    return {
        "project": {
            "name": about["Name"],
            "version": about["Version"],
            "description": about["Summary"],
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": PUBLISHER,
                    "components": COMPONENTS,
                    "config": _nested(defaults()),
                }
            }
        },
    }


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables of tables for keys with dots."""
    tables: dict[str, Any] = {}
    for key, value in flat.items():
        *path, name = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    return tables
