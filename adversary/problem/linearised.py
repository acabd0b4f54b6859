"""The derivative of a function of images at one place, as products with vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Linearised:
    """v -> J v and u -> J^T u of a function's Jacobian J, (m, n), at images.

    The function is worked out once: a product costs about what one of its values does. J v is the
    derivative of J^T u, which is linear in u, so that neither goes through the function again.

    Parameters
    ----------
    function : callable
        Of images.
    images : Tensor
        (B, C, H, W), in the precision in which products are taken. Vectors may have any other,
        and lengths beyond its range.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], images: Tensor) -> None:
        with torch.enable_grad():
            self._image = images.detach().clone().requires_grad_()
            self._value = function(self._image)
            self._probe = torch.zeros_like(self._value).requires_grad_()
            (self._pulled,) = torch.autograd.grad(
                self._value, self._image, self._probe, create_graph=True
            )

    @property
    def images(self) -> Tensor:
        """Where, (B, C, H, W)."""
        return self._image.detach()

    @property
    def value(self) -> Tensor:
        """The function's value there."""
        return self._value.detach()

    def push(self, vector: Tensor) -> Tensor:
        """Return J v, (m,), of (n,)."""
        return _product(self._pulled, self._probe, vector)

    def pull(self, vector: Tensor) -> Tensor:
        """Return J^T u, (n,), of (m,)."""
        return _product(self._value, self._image, vector)


def _product(value: Tensor, of: Tensor, vector: Tensor) -> Tensor:
    """Return the derivative of a value by what it depends on, times a vector."""
    size = 1.0 if vector.dtype == value.dtype else float(vector.abs().max()) or 1.0
    shaped = (vector / size).to(value).view_as(value)
    (found,) = torch.autograd.grad(value, of, shaped, retain_graph=True)
    return size * found.flatten().to(vector)
