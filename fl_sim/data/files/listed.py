"""The files that a table names, wherever below its folder they are."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from fl_sim.data.errors import DataError
from fl_sim.data.files.tables import inside
from fl_sim.data.files.tree import SUFFIXES, FolderTree


@dataclass
class Listed:
    """Finds the files of one table.

    A path starts in the table's folder. Where all paths start with a folder that is not there, as
    in CheXpert, it is taken off; and a bare name, with or without an ending, may be that of a
    file in any folder below, as in ChestX-ray14 and MIMIC-CXR, if only one has it. A path that
    leads nowhere may start in a folder further below, and have another ending of pictures, as in
    CheXpert Plus; that is told.

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
    _elsewhere: list[tuple[str, str]] = field(default_factory=list)

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
        if (self.folder / path).is_file() or path.startswith(("/", "../")):
            return inside(self.folder, path, self.table)
        named = self._moved(path) if "/" in path else self._named(path)
        if len(named) > 1:
            raise DataError(
                f"{self.table}: path '{path}' is that of {len(named)} files, '{named[0]}' and"
                f" '{named[1]}' among them"
            )
        if named and "/" in path:
            self._elsewhere.append((path, named[0]))
        return inside(self.folder, named[0] if named else path, self.table)

    @property
    def remark(self) -> str:
        """How many files were not where the table has them, in words; empty for none."""
        if not self._elsewhere:
            return ""
        path, file = self._elsewhere[0]
        return f"found: {len(self._elsewhere)} images as '{file}' for '{path}'"

    def _moved(self, path: str) -> list[str]:
        """Return the files of a path below another folder, of its own ending or the next one."""
        first = path.partition("/")[0]
        roots = ["", *(name[: -len(first)] for name in self._folders if name.endswith(f"/{first}"))]
        bare = str(PurePosixPath(path).with_suffix(""))
        for one in dict.fromkeys([path, *(bare + ending for ending in SUFFIXES)]):
            if found := [root + one for root in roots if (self.folder / root / one).is_file()]:
                return found
        return []

    @cached_property
    def _tree(self) -> FolderTree:
        return FolderTree(self.folder)

    @cached_property
    def _folders(self) -> list[str]:
        return sorted(self._tree.folders)

    def _named(self, name: str) -> list[str]:
        """Return the files below the folder that have a name, or have it before their ending."""
        if not self._below:
            for file in self._tree.names:
                pure = PurePosixPath(file)
                for found in {pure.name, pure.stem if pure.suffix.lower() in SUFFIXES else ""}:
                    self._below.setdefault(found, []).append(file)
        return self._below.get(name, [])


def normalised(path: str) -> str:
    """Return a path as tables should write it: with ``/`` alone, and without detours."""
    if not path:
        return path
    return posixpath.normpath(path.replace("\\", "/"))
