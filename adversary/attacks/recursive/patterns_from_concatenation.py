"""Activation patterns of ReLUs on concatenated inputs (DenseNet).

In a densely connected block every layer is given the outputs of all before it, each time through a
normalisation and a ReLU of its own. What one of these ReLUs put out tells its inputs where it is
on and bounds them where it is off, and so tells, but for values between the thresholds of the two,
which units of another one are on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from adversary.attacks.recursive.layer_graph import LayerGraph

ROUNDING_ERROR = 1e-6
"""Error of values, relative to the largest, that counts as none."""


@dataclass(frozen=True)
class ConcatenatedReLU:
    """A ReLU of many layers' outputs, of whose units only those of the last layer are told.

    Parameters
    ----------
    node, layer : fx.Node
        The ReLU, and that layer.
    between : list of fx.Node
        From the ReLU's input to the concatenation of ``parts``.
    parts : list of fx.Node
        The values that are concatenated.
    """

    node: fx.Node
    layer: fx.Node
    between: list[fx.Node]
    parts: list[fx.Node]


def shared_pattern(
    graph: LayerGraph,
    left: ConcatenatedReLU,
    node: fx.Node,
    outputs: Tensor,
    on: Tensor,
    factor: float | None,
) -> tuple[Tensor, Tensor] | None:
    """Return which units of an open ReLU are on, and which may be, of the shape of its value.

    The last layer's units, told already, are neither. None where thresholds are not 0 and the
    factor is not known.

    Parameters
    ----------
    graph : LayerGraph
        The network.
    left : Open
        The open ReLU.
    node : fx.Node
        One that is given the same values but for those of ``left.layer``.
    outputs, on : Tensor
        (B, ...), its outputs, each image's times a factor > 0, and which of them are on.
    factor : float, optional
        That factor.
    """
    between, parts = graph.joined(node)

    def arranged(values: Tensor) -> Tensor:
        pieces = values.split([graph.shape(part)[1] for part in parts], 1)
        given = dict(zip(parts, pieces, strict=True))
        nothing = values.new_full(graph.shape(left.layer), torch.nan)
        return graph.call(left.between[-1], *(given.get(part, nothing) for part in left.parts))

    slope, shift = _line(graph, between[:-1], outputs)
    told = arranged(on.to(outputs))
    own, own_shift = _line(graph, left.between[:-1], told)
    if factor is None and (shift.any() or own_shift.any()):
        return None
    value = arranged((torch.where(on, outputs / (factor or 1.0), 0) - shift) / slope)
    value, slope = own * value + own_shift, arranged(slope)
    most = ROUNDING_ERROR * value.nan_to_num().abs().max()
    bounded = (value <= most) & (own * slope > 0)
    return (told == 1) & (value > 0), (told == 0) & ~bounded


def _line(graph: LayerGraph, nodes: Sequence[fx.Node], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b of what nodes, the last first, make of values x one by one: a x + b."""

    def through(value: Tensor) -> Tensor:
        for node in reversed(nodes):
            value = graph.call(node, value)
        return value

    shift = through(torch.zeros_like(like))
    return through(torch.ones_like(like)) - shift, shift
