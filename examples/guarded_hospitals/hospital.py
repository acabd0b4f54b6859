"""What a hospital has on its own disks; here X-rays that travel with the project."""

from functools import cache

from flwr.app import Context, Message

from adversary import Prior
from fl_sim.data.loading import load
from strategies.mods import PrivateData

SIZES = (1, 32)
"""X-rays of each hospital: the first has a single one."""


@cache
def own_data(partition: int) -> PrivateData:
    """Return a hospital's X-rays, and those that it has never trained on."""
    splits = load("sample", image_size=32, channels=1, seed=0)
    first = sum(SIZES[:partition])
    own = range(first, first + SIZES[partition])
    return PrivateData(
        images=splits.private.tensor(own),
        labels=splits.private.labels[list(own)],
        held_out=Prior(splits.public.tensor(range(len(splits.public))), splits.public.labels),
    )


def private_data(message: Message, context: Context) -> PrivateData:
    """Return what was trained on in a round: everything."""
    return own_data(int(context.node_config["partition-id"]))
