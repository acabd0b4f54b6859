"""Which column of a table means what, under the names that people and published sets use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.data.errors import DataError
from fl_sim.data.layout import SPLITS

if TYPE_CHECKING:
    import pandas as pd

ROLES: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "filepath", "imagepath", "imgpath", "relativepath", "filename", "file",
        "imagefile", "imagefilename", "imagefilepath", "imageindex", "imagename", "image", "img",
        "pathtoimage", "xrayimagename", "dicompath", "pathtodcm", "dicomid", "imageid",
    ),
    "patient_id": (
        "patientid", "subjectid", "patient", "subject", "deidpatientid", "patientnumber",
        "patientno", "patientname", "participantid", "personid", "pid", "mrn",
    ),
    "split": ("split", "set", "subset", "partition", "phase", "datasettype", "dataset", "usage"),
    "label": (
        "label", "labels", "findinglabels", "findinglabel", "class", "classname", "target",
        "diagnosis", "category",
    ),
}  # fmt: skip
"""Names of each role's column, the first ones first, in small letters and figures alone."""

FINDINGS = (
    frozenset(
        "noFinding enlargedCardiomediastinum cardiomegaly lungOpacity lungLesion edema"
        " consolidation pneumonia atelectasis pneumothorax pleuralEffusion pleuralOther fracture"
        " supportDevices".lower().split()
    ),
    frozenset(
        "atelectasis cardiomegaly consolidation edema effusion emphysema fibrosis hernia"
        " infiltration mass nodule pleuralThickening pneumonia pneumothorax".lower().split()
    ),
)
"""The label columns of CheXpert and MIMIC-CXR, and those of ChestX-ray14."""


def key(column: str) -> str:
    """Return a column's name in small letters and figures alone."""
    return re.sub(r"[^a-z0-9]", "", column.casefold())


def roles(table: pd.DataFrame, told: str, path: Path) -> dict[str, str]:
    """Return the column of each role that a table has; labels may be in other columns too.

    Parameters
    ----------
    table : DataFrame
        As of :func:`fl_sim.data.files.tables.read_table`.
    told : str
        ``data.columns``: ``role = column`` pairs, comma-separated, for what is not guessed.
    path : Path
        The table, for messages.

    Raises
    ------
    DataError
        If what is told does not fit the table.
    """
    found = _told(table, told, path)
    taken = set(found.values())
    for role, names in ROLES.items():
        columns = {key(c): c for c in reversed(list(table.columns)) if c not in taken}
        for name in names:
            if role in found or name not in columns:
                continue
            # Columns of these names often hold something else.
            if role == "split" and name != "split" and not _holds_splits(table[columns[name]]):
                continue
            found[role] = columns[name]
    return found


def findings(table: pd.DataFrame) -> list[str]:
    """Return the label columns of a published table, in its order; none of any other."""
    for names in FINDINGS:
        columns = [column for column in table.columns if key(column) in names]
        if len(columns) == len(names):
            return columns
    return []


def _told(table: pd.DataFrame, told: str, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in told.split(","))):
        role, equals, column = (word.strip() for word in part.partition("="))
        role = "patient_id" if role in {"patient", "patient-id"} else role
        if not equals or role not in ROLES:
            raise DataError(
                f"data.columns = '{told}': '{part}' is not ROLE = COLUMN; roles are"
                f" {', '.join(ROLES)}"
            )
        if column not in table.columns:
            raise DataError(
                f"data.columns = '{told}': {path} has no column '{column}'; its columns are"
                f" {', '.join(map(repr, table.columns))}"
            )
        found[role] = column
    return found


def _holds_splits(column: pd.Series[str]) -> bool:
    values = set(column.str.lower()) - {""}
    return bool(values) and values <= set(SPLITS)
