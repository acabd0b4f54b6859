"""In which arithmetic a GPU or a CPU evaluates a gradient distance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Precision = Callable[[torch.device], Iterator[None]]
"""From a device to what is done before and after an evaluation on it."""


def _full(device: torch.device) -> Iterator[None]:
    """Nothing rounded: PyTorch alone lets cuDNN round float32 to TF32."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def _tf32(device: torch.device) -> Iterator[None]:
    """Factors of products rounded to 10 bits by the tensor cores of a GPU, sums in float32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=True):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _bfloat16(device: torch.device) -> Iterator[None]:
    """Convolutions and products in bfloat16 (8 bits), the rest in float32."""
    # A cache of cast weights would keep the graph of one evaluation alive in the next.
    with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
        yield


PRECISIONS: dict[str, Precision] = {"full": _full, "tf32": _tf32, "bfloat16": _bfloat16}
"""By name; all but ``full`` are for attacks in float32, and ``tf32`` for GPUs that have it."""

TOLERANCE = {"full": 1e-3, "tf32": 1e-2, "bfloat16": 1e-1}
"""What two ways to round the same evaluation may differ by, of the largest entry."""


@contextmanager
def matmul_precision(name: str, device: torch.device) -> Iterator[None]:
    """Evaluate in one of :data:`PRECISIONS` on a device.

    Raises
    ------
    ValueError
        In one line, for ``tf32`` on a CPU.
    """
    if name == "tf32" and device.type != "cuda":
        raise ValueError(f"precision = 'tf32': only GPUs have it, and this is {device.type}")
    yield from PRECISIONS[name](device)
