"""ChestMNIST of MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023)."""

from __future__ import annotations

from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads
from fl_sim.data.sources.medmnist_files import Kind, read

KIND = Kind(
    title="ChestMNIST",
    label_names=(
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
        "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
    several=True,
    base="ChestX-ray14, Wang et al., CVPR 2017",
)  # fmt: skip


@reads("path")
def source(request: DatasetRequest) -> DatasetSource:
    """Return chest X-rays with any of 14 findings: a file, or a download.

    Raises
    ------
    DataError
        As :func:`fl_sim.data.sources.medmnist_files.read`.
    """
    return read(request, KIND)
