"""Quantisation of the update, down to its signs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adversary.common.types import StateDict
from adversary.observation.channel import Channel, Interval
from adversary.observation.mechanisms.base import DefenceError, Mechanism, is_buffer
from adversary.observation.observation import Observation

ROUNDINGS = ("nearest", "stochastic")
_MOST_BITS = 16
_INTERVAL_VARIANCE = {"nearest": 1 / 12, "stochastic": 1 / 6}
"""Of the rounding error, in squared steps, for values spread evenly between two levels."""


@dataclass(frozen=True, kw_only=True)
class Quantised(Mechanism):
    """Send every array of the update in few bits an entry, with one scale an array.

    Two bits and more: uniform symmetric levels, delta = step q with whole q of at most
    2^(bits - 1) - 1 and the step such that the largest entry is the largest level; rounded to the
    nearest level, or at random so that the mean is right (QSGD: Alistarh et al., NeurIPS 2017).
    One bit: the sign times the mean magnitude (the scaled sign of Karimireddy et al., "Error
    feedback fixes SignSGD", ICML 2019, here without the feedback); an entry that did not move
    stays. The floats that the levels stand for are sent; the packing is not simulated.

    Parameters
    ----------
    bits : int
        1 to 16; 8 is int8, 1 the sign.
    rounding : {"nearest", "stochastic"}
        How to round to a level; signs know only "nearest".
    """

    bits: int = 8
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MOST_BITS:
            raise DefenceError(f"bits = {self.bits}: must be an integer >= 1 and <= {_MOST_BITS}")
        if self.rounding not in ROUNDINGS:
            allowed = ", ".join(ROUNDINGS)
            raise DefenceError(f"rounding = {self.rounding!r}: must be one of {allowed}")
        if self.bits == 1 and self.rounding != "nearest":
            raise DefenceError("rounding = 'stochastic': must be nearest where bits = 1")

    @property
    def levels(self) -> int:
        """Levels on either side of zero."""
        return max(1, 2 ** (self.bits - 1) - 1)

    def release(
        self, sent: StateDict, returned: StateDict, *, generator: torch.Generator
    ) -> StateDict:
        """Return the weights after a quantised update; buffers as they are."""
        left = {}
        for name, value in returned.items():
            left[name] = value
            if not is_buffer(name, value):
                start = sent[name].double()
                left[name] = (start + self._quantised(value.double() - start, generator)).to(
                    value.dtype
                )
        return left

    def channel(self, observation: Observation) -> Channel:
        r"""Tell between what limits each entry lies, and how that reads as noise.

        With levels the largest entry received is the largest level, which tells the step s: an
        entry at a level lies within s/2 of it. A sign leaves half of the line. Rounding at random
        has no such limits.

        As noise the error of a level has a standard deviation of s / sqrt(12), at random sqrt(2)
        times as much. With signs the one magnitude m received is the mean of the client's; for a
        normal update E[delta | sign] = m sign and the rest has a standard deviation of
        m sqrt(pi / 2 - 1). The linear reading of signs is right in direction for other updates too
        (Plan and Vershynin, "Robust 1-bit compressed sensing", IEEE Trans. Inf. Theory 2013).
        """
        noise, intervals = {}, {}
        for name, value in observation.returned.items():
            if is_buffer(name, value):
                continue
            delta = value.double() - observation.sent[name].double()
            largest = float(delta.abs().amax())
            if largest:
                noise[name] = largest * self._relative_error
            if self.rounding == "nearest":
                intervals[name] = self._interval(delta, largest)
        return Channel(noise=noise, intervals=intervals)

    def _interval(self, delta: Tensor, largest: float) -> Interval:
        """Return the limits of an array's entries before they were rounded.

        Of an entry that did not move nothing is said where signs are sent: it may be that the
        weight's own rounding hid the move.
        """
        if self.bits == 1:
            lower = torch.where(delta > 0, 0.0, -torch.inf).to(delta)
            return Interval(lower, torch.where(delta < 0, 0.0, torch.inf).to(delta))
        step = largest / self.levels
        level = (delta / step).round() if step else delta
        return Interval((level - 0.5) * step, (level + 0.5) * step)

    @property
    def _relative_error(self) -> float:
        """Standard deviation of the rounding error over the largest entry."""
        if self.bits == 1:
            return math.sqrt(math.pi / 2 - 1)
        return math.sqrt(_INTERVAL_VARIANCE[self.rounding]) / self.levels

    def _quantised(self, delta: Tensor, generator: torch.Generator) -> Tensor:
        if self.bits == 1:
            return delta.abs().mean() * delta.sign()
        step = delta.abs().amax() / self.levels
        if not step:
            return delta
        scaled = delta / step
        if self.rounding == "nearest":
            return step * scaled.round()
        draw = torch.rand(delta.shape, generator=generator, dtype=delta.dtype)
        return step * (scaled + draw).floor()
