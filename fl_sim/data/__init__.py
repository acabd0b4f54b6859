"""X-ray data sets and their patient-disjoint division among clients.

``sources`` has one file a data set, ``files`` the readers of formats. To add a data set: a file in
``sources`` and a line in ``DATASETS``; a way of dividing: a function and a line in ``PARTITIONS``.
"""

from fl_sim.data.dataset import Splits, XrayDataset
from fl_sim.data.errors import DataError
from fl_sim.data.loading import DATASETS, load, load_request
from fl_sim.data.partition import PARTITIONS, partition
from fl_sim.data.validation import hold_out

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "DataError",
    "Splits",
    "XrayDataset",
    "hold_out",
    "load",
    "load_request",
    "partition",
]
