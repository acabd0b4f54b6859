"""Sixteen real X-rays that travel with the code, for demonstrations without a download."""

from __future__ import annotations

from fl_sim.data.sources.base import DatasetRequest, DatasetSource, reads
from fl_sim.data.sources.bundled import bundled

PUBLIC = frozenset(
    {
        "NORMAL2-IM-1440-0001.jpeg",
        "NORMAL2-IM-1442-0001.jpeg",
        "person1952_bacteria_4883.jpeg",
        "person1954_bacteria_4886.jpeg",
    }
)


@reads()
def source(request: DatasetRequest) -> DatasetSource:
    """Return eight normal chests and eight with pneumonia, 256x256, of children aged 1 to 5.

    No test images are held out of so few, and the public four are the same whatever the seed, so
    that figures of several seeds speak of the same twelve. Written by
    :mod:`fl_sim.data.sources.embed`.
    """
    return bundled(
        "embedded",
        request,
        encoding="png",
        part=lambda image: "public" if image["name"] in PUBLIC else "private",
        holds_out_test=False,
    )
