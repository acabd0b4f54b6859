"""Types and constants that several rooms share."""

from __future__ import annotations

from torch import Tensor

RANK_CUTOFF = 1e-9
"""Singular values of A below this are rounding of float64 outputs, whatever the noise."""


StateDict = dict[str, Tensor]


Variables = dict[str, Tensor]
"""What is optimised: tensors whose first dimension counts R independent candidates."""
