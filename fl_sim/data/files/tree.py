"""The files of a folder or zip archive, by name, without what tools left there."""

from __future__ import annotations

import hashlib
import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from fl_sim.data.errors import DataError
from fl_sim.data.files.dicom import HEAD, is_dicom
from fl_sim.data.files.images import LARGEST_FILE, check_size

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp",
    ".dcm", ".dicom",
)  # fmt: skip
"""Endings of pictures; a DICOM file may have any."""

_TOOLS = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
     "__pycache__", "dicomdir", "thumbs.db", "desktop.ini"}
)  # fmt: skip
# What a damaged or unusual archive makes zipfile and its decompressors raise.
_DAMAGE = (
    OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip

HIDDEN, OUTSIDE, CIRCLE, BROKEN = (
    "hidden or a tool's",
    "links that lead out of it",
    "links in a circle",
    "broken links",
)


class Tree(Protocol):
    """Files by their names below a root, with ``/`` between folders.

    ``folders`` are the names of all folders that are looked into, ``left_out`` counts by reason
    what is not.
    """

    names: tuple[str, ...]
    folders: frozenset[str]
    left_out: Counter[str]

    def where(self, name: str) -> str:
        """Return a file as messages name it."""

    def same(self, name: str) -> str:
        """Return what two names of one file have in common."""

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""

    def digest(self, name: str) -> str:
        """Return what files of equal content have in common."""

    def open(self, name: str) -> BinaryIO:
        """Open a file; :class:`DataError` where it cannot be."""

    def read(self, name: str) -> bytes:
        """Return the content of a file; :class:`DataError` where it cannot be had."""


@dataclass
class FolderTree:
    """The files of a folder; links are followed where they stay inside it."""

    root: Path
    names: tuple[str, ...] = ()
    folders: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._real = self.root.resolve()
        files: list[str] = []
        folders: list[str] = []
        self._walk(self.root, "", (self._real,), files, folders)
        self.names, self.folders = tuple(sorted(files)), frozenset(folders)

    def where(self, name: str) -> str:
        """Return a file as messages name it."""
        return str(self.root / name)

    def same(self, name: str) -> str:
        """Return the real path of a file."""
        return str((self.root / name).resolve())

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return (self.root / name).stat().st_size

    def digest(self, name: str) -> str:
        """Return the digest of a file's content."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def open(self, name: str) -> BinaryIO:
        """Open a file; :class:`DataError` where it cannot be."""
        return open_file(self.root / name)

    def read(self, name: str) -> bytes:
        """Return the content of a file; :class:`DataError` where it cannot be had."""
        return read_file(self.root / name)

    def _walk(
        self,
        folder: Path,
        prefix: str,
        above: tuple[Path, ...],
        files: list[str],
        folders: list[str],
    ) -> None:
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
        for entry in entries:
            if is_left_behind(entry.name):
                self.left_out[HIDDEN] += 1
                continue
            real = self._followed(entry) if entry.is_symlink() else above[-1] / entry.name
            if real is None:
                continue
            name = prefix + entry.name
            if not real.is_dir():
                files += [name] if real.is_file() else []
            elif real in above:
                self.left_out[CIRCLE] += 1
            else:
                folders.append(name)
                self._walk(entry, f"{name}/", (*above, real), files, folders)

    def _followed(self, link: Path) -> Path | None:
        """Return where a link leads; None, and counted, where it is not followed."""
        try:
            real = link.resolve(strict=True)
        except (OSError, RuntimeError):
            self.left_out[BROKEN] += 1
            return None
        if not real.is_relative_to(self._real):
            self.left_out[OUTSIDE] += 1
            return None
        return real


@dataclass
class ZipTree:
    """The files of a zip archive; one that is encrypted or packed unusually is refused."""

    archive: Path
    names: tuple[str, ...] = ()
    folders: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        try:
            # Kept open: to open it anew for each file would read its whole directory each time.
            self._file = zipfile.ZipFile(self.archive)
        except _DAMAGE as error:
            raise DataError(f"{self.archive}: cannot be read as a zip file ({error})") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        folders: set[str] = set()
        for entry in self._file.infolist():
            name = entry.filename.replace("\\", "/")
            parts = PurePosixPath(name).parts
            if any(map(is_left_behind, parts)):
                self.left_out[HIDDEN] += not entry.is_dir()
            elif name.startswith("/") or ".." in parts or stat.S_ISLNK(entry.external_attr >> 16):
                self.left_out[OUTSIDE] += 1
            else:
                above = parts if entry.is_dir() else parts[:-1]
                folders |= {"/".join(above[: n + 1]) for n in range(len(above))}
                if not entry.is_dir():
                    self._check(entry)
                    self._entries["/".join(parts)] = entry
        self.names, self.folders = tuple(sorted(self._entries)), frozenset(folders)

    def where(self, name: str) -> str:
        """Return a file as messages name it."""
        return f"{self.archive}: {name}"

    def same(self, name: str) -> str:
        """Return the name itself: an archive has no links."""
        return name

    def size(self, name: str) -> int:
        """Return the size of a file in bytes, unpacked."""
        return self._entries[name].file_size

    def digest(self, name: str) -> str:
        """Return the checksum and size of a file's content, as the archive tells them."""
        return f"{self._entries[name].CRC:08x}-{self.size(name)}"

    def open(self, name: str) -> BinaryIO:
        """Open a file; :class:`DataError` where it cannot be."""
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        """Return the content of a file; :class:`DataError` where it cannot be had."""
        check_size(self.size(name), self.where(name))
        return self._read(name, LARGEST_FILE)

    def head(self, name: str, count: int) -> bytes:
        """Return the first ``count`` bytes of a file."""
        return self._read(name, count)

    def _read(self, name: str, count: int) -> bytes:
        try:
            with self._file.open(self._entries[name]) as content:
                return content.read(count)
        except _DAMAGE as error:
            raise DataError(f"{self.where(name)}: cannot be unpacked ({error})") from None

    def _check(self, entry: zipfile.ZipInfo) -> None:
        if entry.flag_bits & 1:
            raise DataError(
                f"{self.archive}: is encrypted ('{entry.filename}' needs a password); unpack it, "
                "and give the folder"
            )
        try:
            zipfile._get_decompressor(entry.compress_type)  # type: ignore[attr-defined]
        except NotImplementedError:
            raise DataError(
                f"{self.archive}: '{entry.filename}' is compressed by method {entry.compress_type}"
                f"{' (Deflate64)' if entry.compress_type == 9 else ''}, which cannot be unpacked "
                "here; unpack it by another program, and give the folder"
            ) from None


def pictures_of(tree: Tree) -> tuple[list[str], Counter[str]]:
    """Return the names of the pictures in a tree, and how many files of other endings there are.

    A picture is known by its ending, and a DICOM file of any other by what it holds.
    """
    names, others = [], Counter[str]()
    for name in tree.names:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in SUFFIXES or _holds_dicom(tree, name):
            names.append(name)
        else:
            others[suffix or "without ending"] += 1
    return names, others


def is_left_behind(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or one that tools leave."""
    return name.startswith(".") or name.lower() in _TOOLS


def open_file(path: Path) -> BinaryIO:
    """Open a file; :class:`DataError` where it cannot be."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_file(path: Path) -> bytes:
    """Return the content of a file that holds one image; :class:`DataError` if it cannot be had."""
    try:
        check_size(path.stat().st_size, str(path))
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def passed_over(others: Counter[str], left_out: Counter[str]) -> str:
    """Return in words what of a tree is not read; empty if all of it is."""
    counts = [f"{count} {what}" for what, count in sorted(others.items())]
    counts += [f"{count} {why}" for why, count in sorted(left_out.items()) if count]
    return f"passed over: {', '.join(counts)}" if counts else ""


def _holds_dicom(tree: Tree, name: str) -> bool:
    if isinstance(tree, ZipTree):
        return is_dicom(tree.head(name, HEAD))
    with tree.open(name) as file:
        return is_dicom(file.read(HEAD))
