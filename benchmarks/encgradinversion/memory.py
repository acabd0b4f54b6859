"""How much memory a row takes: estimated before it starts, measured while it runs.

The estimate counts arrays: weights, their gradient and its graph; what all layers put out, which
grows with the batch; and the Jacobian of the encodings with its factorisation, where phase 2 is in
closed form.
"""

from __future__ import annotations

import threading
from types import TracebackType

import psutil
import torch
from torch import Tensor, nn

from benchmarks.encgradinversion.errors import PaperError

MIB = 2**20
WEIGHTS = 12
"""Float64 arrays as large as the weights that live together: an estimate."""
ACTIVATIONS = 8
"""Float64 arrays as large as what all layers put out."""
HISTORY = 45
"""Float64 arrays as large as the images: the curvature pairs of L-BFGS, Adam's moments."""
BASE = 600 * MIB
"""Python, torch and the images themselves."""
CLOSED_FORM = 4096
"""Entries of an encoding up to which phase 2 has a Jacobian."""


def needed(model: nn.Module, image: Tensor, batch: int) -> int:
    """Return the bytes that an attack on a batch will take at most, roughly.

    Parameters
    ----------
    model : nn.Module
        The victim.
    image : Tensor
        (C, H, W).
    batch : int
        B.
    """
    fixed, each = _parts(model, image)
    return fixed + batch * each


def check(model: nn.Module, image: Tensor, batch: int, free: int | None = None) -> None:
    """Refuse a batch that memory is too small for, with the largest that fits.

    Raises
    ------
    PaperError
        If it does not fit into ``free`` bytes, by default what is free now.
    """
    free = psutil.virtual_memory().available if free is None else free
    fixed, each = _parts(model, image)
    if (wanted := fixed + batch * each) <= free:
        return
    fits = (free - fixed) // each
    told = f"a batch of {fits} fits" if fits > 0 else "not even one image fits at this --size"
    raise PaperError(
        f"--batch {batch} at {image.shape[-1]} pixels: takes some {wanted / 2**30:.1f} GiB, and "
        f"{free / 2**30:.1f} GiB are free; {told}"
    )


class Peak:
    """The most resident memory of this process, in MiB, while a block runs."""

    PERIOD = 0.02  # seconds between looks

    def __init__(self) -> None:
        self.mib = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process()
        while True:
            self.mib = max(self.mib, process.memory_info().rss / MIB)
            if self._over.wait(self.PERIOD):
                return


def _parts(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return the bytes that do not depend on the batch, and those of each image."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    activations, encoding = _outputs(model, image)
    pixels = image.numel()
    jacobian = encoding * (2 * encoding + 4 * pixels) if encoding <= CLOSED_FORM else 0
    fixed = BASE + 8 * (WEIGHTS * weights + jacobian)
    return fixed, 8 * (ACTIVATIONS * activations + HISTORY * pixels)


def _outputs(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return how many numbers all layers put out for one image, and the last layer's inputs."""
    counted, inputs = [0], [0]

    def count(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        counted[0] += out.numel()
        inputs[0] = given[0].numel()

    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad():
            model(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return counted[0], inputs[0]
