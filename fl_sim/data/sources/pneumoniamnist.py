"""PneumoniaMNIST of MedMNIST v2 (Yang et al., Scientific Data 10:41, 2023)."""

from __future__ import annotations

from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads
from fl_sim.data.sources.medmnist_files import Kind, read

KIND = Kind(
    title="PneumoniaMNIST",
    label_names=("normal", "pneumonia"),
    several=False,
    base="Kermany et al., Cell 172:1122 (2018)",
)


@reads("path")
def source(request: DatasetRequest) -> DatasetSource:
    """Return children's chest X-rays, normal or with pneumonia: a file, or a download.

    Raises
    ------
    DataError
        As :func:`fl_sim.data.sources.medmnist_files.read`.
    """
    return read(request, KIND)
