"""720 real X-rays of 64x64 that travel with the code: enough for a model to learn from."""

from __future__ import annotations

from fl_sim.data.errors import DataError
from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads
from fl_sim.data.sources.bundled import bundled

SIDE = 64
"""Pixels a side, as stored."""


@reads()
def source(request: DatasetRequest) -> DatasetSource:
    """Return 400 private, 120 public and 200 test X-rays, half of each with pneumonia.

    One image a patient, of children aged 1 to 5. Written by
    :mod:`fl_sim.data.sources.embed_sample`.

    Raises
    ------
    DataError
        If images larger than the stored ones are asked for.
    """
    if request.image_size > SIDE:
        raise DataError(
            f"data.image-size = {request.image_size}: the X-rays of 'sample' are {SIDE}x{SIDE};"
            f" allowed are up to {SIDE} (data.name = 'embedded' has sixteen of 256x256)"
        )
    return bundled("sample", request, encoding="jpeg", part=lambda image: image["part"])
