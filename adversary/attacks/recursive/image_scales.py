"""Estimate each image's scale in the recovered layer errors."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn import functional

from adversary.attacks.recursive.layer_recursion import (
    LayerEstimate,
    LayerRecursion,
    LayerRecursionError,
)

ROUNDING_ERROR = 1e-6
"""Error of outputs that rounding leaves, relative to the layer's largest."""

MIN_SCALE_DECADES, GRID_POINTS = 5, 256
"""Factors looked at, from 10^-5 to 1 times the largest."""

MAX_DIP = 1.0
"""Excess of an image's error over its factor, relative to it, that may become none."""

EXACT_EXCESS = 1e-3
"""Excess, relative to the factor, that counts as none."""

GAUSS_NEWTON_STEPS = 12
"""Of Gauss-Newton to a factor."""

SCALES_PER_CHUNK = 32
"""Factors whose logits are worked out together."""


def image_scales(peeling: LayerRecursion, at: LayerEstimate) -> tuple[Tensor, Tensor]:
    """Return the factor f of each of several images, (B,), and their labels.

    At a layer that all images pass. An image's own values give its logits, and the gradient of
    its loss by these, with the right label, is f v; and they give what is known of the layers
    above. Of several solutions those are taken whose sum the bias tells. An image that the update
    hides there has no values, and the factor NaN.

    Raises
    ------
    LayerRecursionError
        If an image has none, or all are hidden.
    """
    there = at.values.flatten(1).any(1).tolist()
    if not any(there):
        raise LayerRecursionError("the update hides all images")
    found = [
        _Scale(peeling, at, image).solutions() if there[image] else [_hidden(peeling, image)]
        for image in range(peeling.batch)
    ]
    if not all(found):
        raise LayerRecursionError("no factor of an image explains its own gradient")
    bias = peeling.problem.head.bias_gradient
    assert bias is not None
    told, signs = float(bias @ peeling.direction), peeling.signs.tolist()

    def astray(chosen: tuple[tuple[float, Tensor], ...]) -> float:
        known = (
            (f * sign) for (f, _), sign in zip(chosen, signs, strict=True) if not math.isnan(f)
        )
        return abs(sum(known) - told)

    best = min(itertools.product(*found), key=astray)
    return torch.tensor([f for f, _ in best]).to(at.values), torch.stack([y for _, y in best])


def _hidden(peeling: LayerRecursion, image: int) -> tuple[float, Tensor]:
    """Return no factor, and the label that the sign of the gradient by its logits tells."""
    direction = peeling.signs[image] * peeling.direction
    if peeling.problem.loss == "cross-entropy":
        return math.nan, direction.argmin()
    return math.nan, (direction < 0).long()


class _Scale:
    """How the values of one image, f times what they are, tell f."""

    def __init__(self, peeling: LayerRecursion, at: LayerEstimate, image: int) -> None:
        graph, self.problem, self.batch = peeling.graph, peeling.problem, peeling.batch
        self.values = at.values[image]
        self.direction = peeling.signs[image] * peeling.direction
        order = graph.nodes.index
        others = [k for k in peeling.known if order(k.node) > order(at.node)]
        self.above = graph.above(at.node, [graph.result, *(k.node for k in others)])
        told = [k.values[image].flatten() for k in others]
        self.known = torch.cat(told)
        self.unit = torch.cat([(ROUNDING_ERROR * v.abs().max()).expand(len(v)) for v in told])

    def solutions(self) -> list[tuple[float, Tensor]]:
        """Return the factors, with their labels, at which the image explains its own error."""
        classes = torch.arange(2, device=self.values.device)
        labels = classes if self.problem.loss == "cross-entropy" else classes[:, None]
        grid = torch.logspace(-MIN_SCALE_DECADES, 0, GRID_POINTS).to(self.values) * 2 / self.batch
        with torch.no_grad():
            logits = torch.cat([self._at(part)[0] for part in grid.split(SCALES_PER_CHUNK)])
        found: list[tuple[float, Tensor]] = []
        for label in labels:
            size = self._excess(grid, logits, label).abs() / grid
            padded = functional.pad(size[None], (1, 1), value=torch.inf)[0]
            dips = (size <= padded[:-2]) & (size <= padded[2:]) & (size < MAX_DIP)
            for i in dips.nonzero()[:, 0].tolist():
                factor, left = self._refined(grid[i : i + 1], label)
                if left < EXACT_EXCESS and not any(
                    abs(f / factor - 1) < EXACT_EXCESS and y.equal(label) for f, y in found
                ):
                    found.append((factor, label))
        return found

    def _refined(self, start: Tensor, label: Tensor) -> tuple[float, float]:
        """Return where Gauss-Newton steps end, and the excess there relative to the factor."""

        def gaps(logarithm: Tensor) -> Tensor:
            f = logarithm.exp()
            logits, *values = self._at(f)
            there = (f * torch.cat([v.flatten() for v in values]) - self.known) / self.unit
            return torch.cat([there, self._excess(f, logits, label) / f / ROUNDING_ERROR])

        at = start.log()
        for _ in range(GAUSS_NEWTON_STEPS):
            gap, slope = jvp(gaps, (at,), (torch.ones_like(at),))[:2]
            at = at - ((slope @ gap) / (slope @ slope)).clamp(-0.3, 0.3)
        return float(at.exp()), ROUNDING_ERROR * abs(float(gaps(at)[-1]))

    def _at(self, f: Tensor) -> tuple[Tensor, ...]:
        """Return the logits, (n, outputs), and the known layers' values at n factors."""
        return self.above(self.values / f.view(-1, *[1] * self.values.ndim))

    def _excess(self, f: Tensor, logits: Tensor, label: Tensor) -> Tensor:
        """Return by how much the error that logits give exceeds f, (n,)."""
        targets = self.problem.targets(label[None]).expand(len(f), -1)

        def loss(logits: Tensor) -> Tensor:
            return len(f) / self.batch * self.problem.mean_loss(logits, targets)

        return torch.func.grad(loss)(logits) @ self.direction - f
