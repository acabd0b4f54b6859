"""Whose image it is, as far as names and files tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from fl_sim.data.sources.base import Part

_FOLDER = re.compile(r"(?:patient|subject|person|pat|sub|pt|p)[-_ ]?\d+", re.IGNORECASE)
_BLANK = frozenset({"", "nan", "na", "n/a", "none", "null", "-", "?"})
_WHOLE = re.compile(r"(\d+)\.0+")

# The names that published sets give their files.
_NIH = re.compile(r"(\d{8})_\d{3}\.\w+")
_KERMANY = (
    re.compile(r"(person\d+)_(?:bacteria|virus)_\d+(?:_\d+)?\.\w+"),
    re.compile(r"((?:NORMAL2-)?IM-\d+)-\d{4}(?:-\d{4})?\.\w+"),
    re.compile(r"(?:NORMAL|BACTERIA|VIRUS)-(\d+)-\d+\.\w+"),
)


@dataclass(frozen=True)
class Sighting:
    """What is known of an image before it is read: its name, part, folders below its label."""

    name: str
    part: Part | None
    folders: tuple[str, ...]


def by_folder_name(image: Sighting) -> str:
    """Return the last folder of a path that names a patient (patient00001), else nothing."""
    return next((part for part in image.folders[::-1] if _FOLDER.fullmatch(part.strip())), "")


def by_published_name(image: Sighting) -> str:
    """Return the patient in a file name of ChestX-ray14 or Kermany's set, else nothing."""
    name = PurePosixPath(image.name).name
    if found := _NIH.fullmatch(name):
        return found[1]
    return kermany_patient(name, image.part)


def kermany_patient(name: str, part: Part | None) -> str:
    """Return the patient in a file name of Kermany's set; its test images count anew from 1."""
    for pattern in _KERMANY:
        if found := pattern.fullmatch(name):
            counts_anew = part == "test" and not found[1].isdecimal()
            return f"test-{found[1]}" if counts_anew else found[1]
    return ""


def automatic(image: Sighting) -> str:
    """Return the patient that folders or a published way of naming tell, else nothing."""
    return by_folder_name(image) or by_published_name(image)


def of_itself(image: Sighting) -> str:
    """Return the image's own name: each counts as a patient."""
    return image.name


def by_folder(image: Sighting) -> str:
    """Return the folders that an image is in, below its label."""
    return "/".join(image.folders)


def by_name(image: Sighting) -> str:
    """Return the file's name up to its first ``_`` or ``-``."""
    return re.split(r"[_-]", PurePosixPath(image.name).stem)[0]


PATIENTS: dict[str, Callable[[Sighting], str]] = {
    "auto": automatic,
    "image": of_itself,
    "folder": by_folder,
    "name": by_name,
}
"""How patients are told apart, by name; what is empty, DICOM files and then images tell."""


def cleaned(patient: str) -> str:
    """Return a patient as tables write it, without blanks, ``nan`` and a decimal point."""
    name = patient.strip()
    if name.lower() in _BLANK:
        return ""
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name


def in_words(known: Sequence[str], how: str) -> str:
    """Return a line on N images' patients, ``""`` where one is not known."""
    missing = sum(not patient for patient in known)
    if missing == len(known):
        return "patients: not known, each image counts as one"
    count = len(set(filter(None, known)))
    rest = f"; {missing} images name none, and count as one each" if missing else ""
    return f"patients: {count}, told by {how}{rest}"
