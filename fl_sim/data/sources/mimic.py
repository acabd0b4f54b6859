"""The tables of MIMIC-CXR-JPG (Johnson et al., 2019), which come apart.

Labels are given by study, in ``mimic-cxr-2.0.0-chexpert.csv.gz``; which images a study has, and
the split, are in ``mimic-cxr-2.0.0-split.csv.gz`` beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fl_sim.data.errors import DataError
from fl_sim.data.files.columns import key
from fl_sim.data.files.tables import is_table, read_table
from fl_sim.data.sources.base import DatasetRequest

if TYPE_CHECKING:
    import pandas as pd

_OF_STUDY = ("subject_id", "study_id")


def with_images(
    table: pd.DataFrame, path: Path, request: DatasetRequest
) -> tuple[pd.DataFrame, str]:
    """Return a table by study as one by image, and a remark on it; any other as it is.

    Raises
    ------
    DataError
        If a table by study has none beside it that tells its images.
    """
    keys = {key(column) for column in table.columns}
    if not {"subjectid", "studyid"} <= keys or "dicomid" in keys or keys & {"path", "filename"}:
        return table, ""
    for other in sorted(path.parent.iterdir(), key=lambda p: ("split" not in p.name, p.name)):
        if other == path or not is_table(other):
            continue
        images = read_table(other, [])
        if not {"dicom_id", *_OF_STUDY} <= set(images.columns):
            continue
        wanted = ["dicom_id", *_OF_STUDY, *(["split"] if "split" in images else [])]
        merged = images[wanted].merge(table, on=list(_OF_STUDY), how="inner")
        if merged.empty:
            raise DataError(f"{path}: has no study in common with {other}")
        left = len(table) - len(merged[list(_OF_STUDY)].drop_duplicates())
        remark = f"images of its studies: from {other.name}"
        return merged, f"{remark}; {left} studies have none" if left else remark
    raise DataError(
        f"{path}: lists studies and no images; MIMIC-CXR's table of splits (dicom_id, study_id,"
        " subject_id, split) is needed beside it"
    )
