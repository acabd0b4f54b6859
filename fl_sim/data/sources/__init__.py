"""Data sets: one file each, from a request to an index with pixels on demand.

To add one: a function from :class:`DatasetRequest` to :class:`DatasetSource`, and a line in
``DATASETS`` of :mod:`fl_sim.data.loading`.
"""

from fl_sim.data.sources.base import DatasetRequest, DatasetSource

__all__ = [
    "DatasetRequest",
    "DatasetSource",
]
