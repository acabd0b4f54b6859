"""Public X-rays: never the victims' split."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor

from adversary.priors.gaussian import GaussianPrior


@dataclass(frozen=True)
class Prior:
    """Public X-rays and their mean.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W) in [0, 1], N >= 1; none of them a patient under attack.
    labels : Tensor, optional
        Of them, (N,) class indices or (N, C) multi-hot.
    """

    images: Tensor
    labels: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Mean public X-ray, (1, C, H, W)."""
        return self.images.mean(dim=0, keepdim=True)

    @functools.cached_property
    def gaussian(self) -> GaussianPrior:
        """Normal distribution learned from the public X-rays, once."""
        return GaussianPrior.fit(self.images)
