"""What the folders above an image say: its label, and its part of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fl_sim.data.errors import DataError
from fl_sim.data.files.tree import Tree
from fl_sim.data.sources.base import Part

SPLITS: dict[str, Part] = {
    "private": "private",
    "train": "private",
    "training": "private",
    "public": "public",
    "val": "public",
    "valid": "public",
    "validate": "public",
    "validation": "public",
    "dev": "public",
    "test": "test",
    "testing": "test",
}
"""Usual names of splits, in small letters, and what each of them is here."""


@dataclass(frozen=True)
class Place:
    """Where an image stands: its label, its part where folders tell one, folders below them."""

    label: str
    part: Part | None
    below: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The images of a tree in their places.

    Parameters
    ----------
    places : dict of str to Place
        One an image, by its name.
    remark : str
        What of the tree was left out, in words; empty for nothing.
    """

    places: dict[str, Place]
    remark: str = ""

    @property
    def has_splits(self) -> bool:
        """Whether folders tell the parts."""
        return any(place.part for place in self.places.values())


def arrange(tree: Tree, images: Sequence[str], root: str) -> Layout:
    """Find out which folders are labels and which are splits.

    Folders named as splits (``train``, ``test``, ``val``) may stand above the labels, or all of
    them directly below; a single folder may enclose the splits.

    Parameters
    ----------
    tree : Tree
        All files and folders.
    images : sequence of str
        Those that are read, at least one.
    root : str
        The folder or archive, for messages.

    Raises
    ------
    DataError
        If an image has no label, a label no image, or splits stand beside something else.
    """
    prefix = _enclosing(images)
    inner = {name: tuple(name.removeprefix(prefix).split("/")) for name in images}
    inner, remark = _without_copy(tree, inner, root)
    depth = _split_depth(list(inner.values()))
    places = {}
    for name, parts in inner.items():
        split = None if depth is None else parts[depth]
        rest = [part for level, part in enumerate(parts) if level != depth]
        if len(rest) < 2:
            raise DataError(
                f"{tree.where(name)}: has no label; each image belongs into a sub-folder named by"
                f" its label{f', below {split!r}' if split else ''}, or give a CSV file"
            )
        part = None if split is None else SPLITS[_key(split)]
        places[name] = Place(rest[0].strip(), part, tuple(rest[1:-1]))
    _check_labels(tree, inner, prefix, depth, root)
    return Layout(places, remark)


def check_case(labels: Iterable[str], where: str) -> None:
    """Raise :class:`DataError` where labels differ by capital letters alone."""
    seen: dict[str, str] = {}
    for label in sorted(set(labels)):
        other = seen.setdefault(label.casefold(), label)
        if other != label:
            raise DataError(
                f"{where}: labels '{other}' and '{label}' differ in capital letters alone; write"
                " them alike"
            )


def _key(name: str) -> str:
    return name.strip().lower()


def _is_split(name: str) -> bool:
    return _key(name) in SPLITS


def _enclosing(images: Sequence[str]) -> str:
    """Return the folders, with ``/`` behind, that enclose all splits; mostly none."""
    prefix = ""
    while True:
        rests = [name.removeprefix(prefix).split("/") for name in images]
        tops = {parts[0] for parts in rests if len(parts) > 1}
        if any(map(_is_split, tops)):
            return prefix
        if len(tops) != 1 or any(len(parts) == 1 for parts in rests):
            return ""
        prefix += f"{tops.pop()}/"


def _without_copy(
    tree: Tree, inner: dict[str, tuple[str, ...]], root: str
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Leave out a folder beside the splits that holds the same files again (as Kaggle's does)."""
    tops = {parts[0] for parts in inner.values() if len(parts) > 1}
    splits = {top for top in tops if _is_split(top)}
    if not splits or splits == tops:
        return inner, ""
    sizes = {parts: tree.size(name) for name, parts in inner.items() if parts[0] in splits}
    kept, copies = dict(inner), 0
    for name, parts in inner.items():
        if parts[0] not in splits:
            if len(parts) < 2 or sizes.get(parts[1:]) != tree.size(name):
                raise DataError(
                    f"{root}: '{min(splits)}' is named as a split, and '{parts[0]}' beside it is"
                    " not; leave splits alone, or labels, or give a CSV file"
                )
            del kept[name]
            copies += 1
    others = ", ".join(sorted(tops - splits))
    return kept, f"passed over: {copies} images in {others}, which are the same again"


def _split_depth(paths: Sequence[tuple[str, ...]]) -> int | None:
    """Return how many folders stand above the splits; None if there are no splits."""
    for depth in (0, 1):
        named = [len(parts) > depth + 1 and _is_split(parts[depth]) for parts in paths]
        if all(named):
            return depth
    return None


def _check_labels(
    tree: Tree, inner: dict[str, tuple[str, ...]], prefix: str, depth: int | None, root: str
) -> None:
    """Raise where a folder that must be a label has no image that is read."""
    level = 2 if depth == 0 else 1
    filled = {parts[:level] for parts in inner.values()}
    for folder in sorted(tree.folders):
        if not folder.startswith(prefix):
            continue
        parts = tuple(folder.removeprefix(prefix).split("/"))
        if len(parts) != level or parts in filled or (level == 2 and not _is_split(parts[0])):
            continue
        held = sum(name.startswith(f"{folder}/") for name in tree.names)
        raise DataError(
            f"{root}: the folder '{folder}' is a label, and none of its {held} files is an image"
            " that can be read; remove it, or give a CSV file"
        )
    check_case((parts[1] if depth == 0 else parts[0] for parts in inner.values()), root)
