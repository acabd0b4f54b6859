"""The files that a table names, wherever below its folder they are."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fl_sim.data.errors import DataError
from fl_sim.data.files.tables import inside
from fl_sim.data.files.tree import SUFFIXES, FolderTree


@dataclass
class Listed:
    """Finds the files of one table.

    A path starts in the table's folder. Where all paths start with a folder that is not there, as
    in CheXpert, it is taken off; and a bare name, with or without an ending, may be that of a
    file in any folder below, as in ChestX-ray14 and MIMIC-CXR, if only one has it.

    Parameters
    ----------
    table : Path
        The table.
    paths : sequence of str
        All that it lists, which tells what they have in common.
    """

    table: Path
    paths: Sequence[str]
    _below: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = self.table.resolve().parent
        firsts = {path.partition("/")[0] for path in self.paths if "/" in path}
        alone = len(firsts) == 1 and all("/" in path for path in self.paths)
        first = firsts.pop() if alone else ""
        absent = bool(first) and first not in {".", ".."} and not (self.folder / first).exists()
        self._common = f"{first}/" if absent or first == self.folder.name else ""

    def file(self, path: str) -> Path:
        """Return the file of a path; :class:`DataError` where there is none, or several."""
        if self._common:
            below = path.removeprefix(self._common)
            if (self.folder / below).is_file():
                return inside(self.folder, below, self.table)
        if (self.folder / path).is_file() or "/" in path:
            return inside(self.folder, path, self.table)
        named = self._named(path)
        if len(named) > 1:
            raise DataError(
                f"{self.table}: path '{path}' is that of {len(named)} files, '{named[0]}' and"
                f" '{named[1]}' among them"
            )
        return inside(self.folder, named[0] if named else path, self.table)

    def _named(self, name: str) -> list[str]:
        """Return the files below the folder that have a name, or have it before their ending."""
        if not self._below:
            for file in FolderTree(self.folder).names:
                pure = PurePosixPath(file)
                for found in {pure.name, pure.stem if pure.suffix.lower() in SUFFIXES else ""}:
                    self._below.setdefault(found, []).append(file)
        return self._below.get(name, [])


def normalised(path: str) -> str:
    """Return a path as tables should write it: with ``/`` alone, and without detours."""
    if not path:
        return path
    return posixpath.normpath(path.replace("\\", "/"))
