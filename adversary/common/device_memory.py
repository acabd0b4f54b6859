"""How much memory an attack may take at once, and how to tell that it was too much."""

from __future__ import annotations

import torch

CPU_BYTES = 2**30
"""On a CPU, whose memory is shared with the clients and with other attacks."""


def available_bytes(device: torch.device) -> int:
    """Return the bytes that candidates evaluated together may take, roughly.

    On a GPU half of what is free now: what does not fit after all is tried again in halves.
    """
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    return free // 2


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there was no memory left, on a GPU or a CPU."""
    # PyTorch has no class of its own for its CPU allocator.
    told = "not enough memory" in str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or told
