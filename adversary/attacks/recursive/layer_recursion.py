"""Recover every layer's input from the gradient, from the head down (as R-GAP does).

The gradient of a layer's weights is linear in the layer's inputs once the errors at its outputs are
known; a ReLU hands an error on where its own output, found as the input of the layer above, is
positive. So errors and inputs follow each other down from the head, each by a linear system with as
many equations as there are weights to a channel, and which units are on is never searched for. Zhu
and Blaschko, "R-GAP: Recursive gradient attack on privacy" (ICLR 2021), for one image and chains of
layers. Here also for residual and densely connected networks, for layers before a mean over
positions and for several images, whose pattern of units that are on is found first
(:mod:`adversary.attacks.recursive.patterns_by_shifts`,
:mod:`adversary.attacks.recursive.patterns_by_enumeration`,
:mod:`adversary.attacks.recursive.patterns_by_linear_program`).

In a densely connected network a ReLU is given the outputs of many layers, and only of the last of
them is it the first ReLU. Which units of these channels are on tells the layers on which that last
one rests, among them all other channels, and so the rest of the ReLU
(:meth:`LayerRecursion._settle`).

Of each image all errors are known up to a factor f that they share, and so are inputs:
what a layer was given comes as f times its value (:mod:`adversary.attacks.recursive.image_scales`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from adversary.attacks.recursive.layer_equations import LayerSolution, solve_layer
from adversary.attacks.recursive.layer_graph import LAYERS, GraphError, LayerGraph
from adversary.attacks.recursive.patterns_by_enumeration import (
    MAX_COLUMNS,
    binary_factorizations,
    patch_positions,
)
from adversary.attacks.recursive.patterns_by_linear_program import patterns_by_linear_program
from adversary.attacks.recursive.patterns_by_shifts import patterns_by_shifts
from adversary.attacks.recursive.patterns_from_concatenation import ConcatenatedReLU, shared_pattern
from adversary.common.errors import UserError
from adversary.problem.problem import Problem

NOISE_SIGMAS = (4.0, 7.0, 40.0)
"""Standard deviations of its error from which, and up to which at least and at most, a unit's
output may be noise or not."""

NOISE_ASYMMETRY = 3.0
"""Of noise to one side, times that to the other."""

MIN_NOISY_OUTPUTS = 30
"""Outputs between that last number of deviations and ten times as many, that some are below."""

RANK_ONE_TOLERANCE = 1e-3
"""Second singular value of the head's gradient, relative to the first, up to which it has one."""


class LayerRecursionError(UserError, ValueError):
    """The network or the update cannot be taken apart; the message says why."""


@dataclass(frozen=True)
class LayerEstimate:
    """What was found of one layer's values.

    Parameters
    ----------
    node : fx.Node
        Whose values they are.
    values : Tensor
        (B, ...), each image's f times its values.
    error : Tensor
        Standard deviation of each, same shape.
    """

    node: fx.Node
    values: Tensor
    error: Tensor

    @property
    def ratios(self) -> Tensor:
        """Values in units of their standard deviations, (B, ...)."""
        return self.values / self.error.clamp_min(torch.finfo(self.error.dtype).tiny)

    @property
    def threshold(self) -> float:
        """Ratio at which noise and outputs part: in the widest gap within :data:`NOISE_SIGMAS`.

        Where outputs are so frequent that several are expected there, noise is taken to reach up
        at most :data:`NOISE_ASYMMETRY` times as far as it does down, where there are no outputs.
        """
        ratios, (least, middle, most) = self.ratios, NOISE_SIGMAS
        if int((ratios > most).sum() - (ratios > 10 * most).sum()) > MIN_NOISY_OUTPUTS:
            most = min(most, max(middle, -NOISE_ASYMMETRY * float(ratios.min())))
        inside = ratios[(ratios > least) & (ratios < most)]
        edges = torch.cat([inside.new_tensor([least, most]), inside]).sort().values.log()
        widest = int(edges.diff().argmax())
        return math.exp(float(edges[widest : widest + 2].mean()))

    @property
    def on(self) -> Tensor:
        """Whether each value is positive, (B, ...)."""
        return self.ratios > self.threshold


class LayerRecursion:
    """The layers of an update, taken off one by one from the head on.

    Parameters
    ----------
    problem : Problem
        One gradient, of a network of convolutions, linear layers, ReLUs, sums, concatenations,
        means over positions and batch normalisation by running statistics; in float64.

    Attributes
    ----------
    graph : LayerGraph
        The network.
    known : list of Known
        What was found, from the head down.
    direction : Tensor
        v, (outputs,): the gradient by an image's logits is f v.
    signs : Tensor
        (B,), 1 or -1: v's for each image, chosen so that f > 0.
    end : str
        Why the layers below the last one known could not be taken off.
    factor : float, optional
        f of a single image; of several they are not told here.

    Raises
    ------
    LayerRecursionError
        If the network cannot be traced, or the head's gradient is not that of one direction.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.batch = problem.shape[0]
        images = next(iter(problem.gradient.values())).new_zeros(problem.shape)
        try:
            self.graph = LayerGraph(problem.model, images)
        except GraphError as error:
            raise LayerRecursionError(str(error)) from error
        self.known: list[LayerEstimate] = []
        self.end = ""
        self._left = math.inf
        self._found: dict[fx.Node, LayerEstimate] = {}
        self._errors: dict[fx.Node, Tensor] = {}
        self._open: ConcatenatedReLU | None = None
        self._doubt: dict[fx.Node, Tensor] = {}
        self._tried: dict[fx.Node, tuple[Tensor, LayerSolution | None]] = {}
        self.signs = torch.ones(self.batch).to(images)
        self._signed = self.batch == 1
        self.direction, self.factor = self._of_logits()
        self._errors[self.graph.result] = self.direction.expand(self.batch, -1)
        for node in reversed(self.graph.nodes[:-1]):
            if node in self._errors and not self._take_off(node):
                break

    @property
    def levels(self) -> list[list[LayerEstimate]]:
        """Return the recovered layers that every path passes, input side first.

        Each after the known layers right below it, which they can pass by.
        """
        order = self.graph.nodes.index
        known = sorted(self.known, key=lambda k: order(k.node))
        ends = [i for i, each in enumerate(known, 1) if self.graph.cuts(each.node)]
        return [known[first:end] for first, end in itertools.pairwise([0, *ends])] or [known]

    def mismatch(self, at: LayerEstimate, scales: Tensor) -> float:
        """Return how far what a layer gives is from what is known above it, relative.

        A layer that all images pass, given each image's factor, (B,), NaN for hidden ones. Of
        order 1 where units were mistaken.
        """
        there = scales.isfinite()
        scales = scales[there]
        order = self.graph.nodes.index
        others = [k for k in self.known if order(k.node) > order(at.node)]
        if not others:
            return 0.0

        def scaled(values: Tensor, by: Tensor) -> Tensor:
            return values * by.view(-1, *[1] * (values.ndim - 1))

        above = self.graph.above(at.node, [k.node for k in others])
        with torch.no_grad():
            found = above(scaled(at.values[there], 1 / scales))
        gaps = [
            (scaled(value, scales) - k.values[there]).norm() / k.values[there].norm()
            for value, k in zip(found, others, strict=True)
        ]
        return float(torch.stack(gaps).max())

    def _of_logits(self) -> tuple[Tensor, float | None]:
        """Return v, and f of a single image."""
        head = self.problem.head
        weight, bias = head.weight_gradient, head.bias_gradient
        layer = self.graph.layer(self.graph.result)
        if not isinstance(layer, nn.Linear):
            raise LayerRecursionError("its last layer is not linear")
        if weight is None or bias is None:
            raise LayerRecursionError("the gradient of its last layer is not told")
        if self.batch == 1:
            return bias / bias.norm(), float(bias.norm())
        left, values, _ = torch.linalg.svd(torch.cat([weight, bias[:, None]], 1))
        if len(values) > 1 and values[1] > RANK_ONE_TOLERANCE * values[0]:
            raise LayerRecursionError(
                "several images need a head with one or, under softmax, two outputs"
            )
        return left[:, 0], None

    def _take_off(self, node: fx.Node) -> bool:
        """Pass the error at a node's value on to its inputs; return whether that could be done."""
        graph = self.graph
        if self._open is not None and node in self._open.parts and node is not self._open.layer:
            self.end = f"nothing tells which units of {self._open.node.name} are on"
            return False
        if graph.rectifies(node):
            try:
                self._switch(node)
            except LayerRecursionError as end:
                self.end = str(end)
                return False
            return True
        if not graph.affine(node):
            self.end = f"what passes {node.name} cannot be followed"
            return False
        layer, above = graph.layer(node), node.all_input_nodes
        if isinstance(layer, LAYERS) and above[0] not in self._found:
            told = self._solved(node, self._errors[node])
            if told is not None:
                self._note(above[0], told.inputs, told.deviation)
                self._errors[node], self._left = told.errors, told.left
        elif graph.keeps(node) and node in self._found:
            found, shape = self._found[node], graph.shape(above[0])
            self._note(above[0], found.values.view(shape), found.error.view(shape))
        for source, pulled in zip(above, graph.pull(node, self._errors[node]), strict=True):
            self._hand_on(source, pulled)
        return True

    def _switch(self, node: fx.Node) -> None:
        """Pass the error at a ReLU's output on to its input, or to the last layer before it.

        Raises
        ------
        LayerRecursionError
            If nothing tells which units are on.
        """
        known, source = self._found.get(node), node.all_input_nodes[0]
        if known is not None:
            if self._open is not None:
                self._settle(self._open, known)
            self._hand_on(source, self._errors[node] * self._mended(node, known))
            return
        layer = self._layer_before(node)
        if layer is None or self._open is not None:
            raise LayerRecursionError(f"nothing tells which units of {node.name} are on")
        on = self._pattern(node, layer)
        between, parts = self.graph.joined(node)
        if len(parts) > 1:
            self._open = ConcatenatedReLU(node, layer, between, parts)
            self._hand_on(layer, self._factor_to(source, layer, self._errors[node]) * on)
        else:
            self._hand_on(source, self._errors[node] * on)

    def _settle(self, left: ConcatenatedReLU, known: LayerEstimate) -> None:
        """Pass an open ReLU's error on, by the outputs of one that was given the same values.

        Raises
        ------
        LayerRecursionError
            If these do not tell which units are on.
        """
        _, parts = self.graph.joined(known.node)
        if {*parts, left.layer} != {*left.parts}:
            return
        error = self._errors[left.node]
        told = shared_pattern(self.graph, left, known.node, known.values, known.on, self.factor)
        if told is None:
            raise LayerRecursionError(
                f"the thresholds of {left.node.name} hide several images' units"
            )
        on, unsure = told
        self._open = None
        self._hand_on(left.between[0], error * on)
        for node in left.between:
            self._take_off(node)
        for layer in self.graph.reaching(left.between[0]):
            self._doubt[layer] = self._factor_to(left.between[0], layer, error * unsure)

    def _hand_on(self, node: fx.Node, error: Tensor) -> None:
        before = self._errors.get(node)
        self._errors[node] = error if before is None else before + error

    def _note(self, node: fx.Node, values: Tensor, error: Tensor) -> None:
        self._found[node] = LayerEstimate(node, values, error)
        self.known.append(self._found[node])

    def _weights(self, node: fx.Node) -> Tensor | None:
        """Return the gradient of a layer's weights, (O, I, k, k'); None where it is not told."""
        found = self.problem.gradient.get(f"{node.target}.weight")
        return None if found is None else found.view(*found.shape, *[1] * (4 - found.ndim))

    def _solved(self, node: fx.Node, error: Tensor) -> LayerSolution | None:
        """Return a layer's input and mended errors, given these; None where they are not told."""
        before = self._tried.get(node)
        if before is not None and torch.equal(before[0], error):
            return before[1]
        self._tried[node] = error, self._solve(node, error)
        return self._tried[node][1]

    def _solve(self, node: fx.Node, error: Tensor) -> LayerSolution | None:
        """Return the same, worked out anew."""
        gradient, taps = self._weights(node), self._taps(node)
        shape = self.graph.shape(node.all_input_nodes[0])
        there = error.flatten(1).any(1)  # images that the update does not hide here
        if gradient is None or taps is None or not there.any():
            return None
        flat = error.reshape(*error.shape[:2], -1)[there]
        doubt = self._doubt.get(node)
        doubt = None if doubt is None else doubt.reshape(*error.shape[:2], -1)[there]
        positive = self._signed and self.graph.positive(node.all_input_nodes[0])
        found = solve_layer(
            gradient.flatten(2), flat, taps, doubt=doubt, usual=self._left, positive=positive
        )
        if found is None:
            return None

        def among_all(of: Tensor, shape: torch.Size, hidden: float) -> Tensor:
            every = of.new_full(shape, hidden)
            every[there] = of.reshape(len(of), *shape[1:])
            return every

        return LayerSolution(
            among_all(found.inputs, shape, 0.0),
            among_all(found.deviation, shape, math.inf),
            among_all(found.errors, error.shape, 0.0),
            found.left,
        )

    def _mended(self, node: fx.Node, known: LayerEstimate) -> Tensor:
        """Return which units of a ReLU are on, mistaken ones as the layer below explains best."""
        source, layer = node.all_input_nodes[0], self._layer_before(node)
        if layer is None or self.graph.joined(node)[1]:
            return known.on
        if any(n in self._errors for n in self._path(source, layer)):
            return known.on  # the layer gets errors from elsewhere, too, not known yet
        size = self._factor_to(source, layer, self._errors[node])
        told = self._solved(layer, size * known.on)
        if told is None:
            return known.on
        changed = (told.errors != size * known.on) & (size.abs() > 0)
        return torch.where(changed, told.errors / size > 0.5, known.on)

    def _taps(self, node: fx.Node) -> Tensor | None:
        """Return which input position each weight meets for each output, (positions, k k', P)."""
        layer, shape = self.graph.layer(node), self.graph.shape(node.all_input_nodes[0])
        if isinstance(layer, nn.Linear):
            return torch.ones(1, 1, 1).to(layer.weight) if len(shape) == 2 else None
        assert isinstance(layer, nn.Conv2d)
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        if not plain or isinstance(layer.padding, str):
            return None
        height, width = shape[-2:]
        every = torch.eye(height * width).to(layer.weight).view(-1, 1, height, width)
        size, padding = layer.kernel_size, layer.padding
        found: Tensor = functional.unfold(
            every,
            (size[0], size[1]),
            dilation=(layer.dilation[0], layer.dilation[1]),
            padding=(int(padding[0]), int(padding[1])),
            stride=(layer.stride[0], layer.stride[1]),
        )
        return found

    def _pattern(self, node: fx.Node, layer_node: fx.Node) -> Tensor:
        """Return which units of the last layer before a ReLU are on, (B, ...).

        Where nothing is known yet of what the ReLU puts out.

        Raises
        ------
        LayerRecursionError
            If they cannot be told.
        """
        error, gradient = self._errors[node], self._weights(layer_node)
        if gradient is None or not self.graph.rectifies(layer_node.all_input_nodes[0]):
            raise LayerRecursionError(f"nothing tells which units of {node.name} are on")
        own = error[:1, :, :1, :1] if error.ndim == 4 else error[:1]
        alike = torch.allclose(error, own.expand_as(error))
        size = self._factor_to(node.all_input_nodes[0], layer_node, error)
        on = (self._alike if alike else self._separated)(node, layer_node, gradient, size)
        if on is None:
            raise LayerRecursionError(
                f"the gradient does not tell which units of {node.name} are on"
            )
        return on

    def _separated(
        self, node: fx.Node, layer_node: fx.Node, gradient: Tensor, size: Tensor
    ) -> Tensor | None:
        """Return which units are on where errors differ from place to place."""
        taps = self._taps(layer_node)
        if taps is None:
            return None
        count, most = len(taps) * self.batch, min(gradient[:, 0].numel(), gradient.shape[1])
        if count > most:
            raise LayerRecursionError(
                f"{count} images and positions at {node.name}: at most {most} can be told apart"
            )
        on = patterns_by_linear_program(
            gradient.flatten(2), size.reshape(*size.shape[:2], -1), taps
        )
        return None if on is None else on.view_as(size)

    def _alike(
        self, node: fx.Node, layer_node: fx.Node, gradient: Tensor, size: Tensor
    ) -> Tensor | None:
        """Return which units are on where all images and places have the same error."""
        scale = size.flatten(2)[0, :, 0] if size.ndim == 4 else size[0]
        taps = self._taps(layer_node)
        for there in range(self.batch, 0, -1):  # noise hides images that the model is sure of
            told = (
                None
                if taps is None
                else patterns_by_shifts(gradient.flatten(2), scale, taps, there)
            )
            told = told or self._enumerated(layer_node, gradient, scale, size.shape[2:], there)
            if told is None:
                continue
            units, signs = told
            on = torch.zeros_like(size)
            on[:there] = units.view_as(on[:there])
            # The layer below was given the outputs of a ReLU, so that f > 0 makes them >= 0.
            self.signs[:there] = signs
            self._signed = True
            error = self._errors[node]
            self._errors[node] = error * self.signs.view(-1, *[1] * (error.ndim - 1))
            return on
        count = self.batch * math.prod(size.shape[2:])
        if count > MAX_COLUMNS:
            raise LayerRecursionError(
                f"{count} images and positions at {node.name} cannot be told apart"
            )
        return None

    def _enumerated(
        self,
        layer_node: fx.Node,
        gradient: Tensor,
        scale: Tensor,
        grid: Sequence[int],
        there: int,
    ) -> tuple[Tensor, Tensor] | None:
        """Return what :func:`shifts` does, by looking at all vectors of zeros and ones."""
        used = scale.abs() > 1e-12 * scale.abs().max()
        rows = torch.zeros_like(gradient.flatten(1))
        rows[used] = gradient.flatten(1)[used] / scale[used, None]
        layer = self.graph.layer(layer_node)
        stride = layer.stride if isinstance(layer, nn.Conv2d) else ()
        for units, seen, noise in binary_factorizations(
            rows, scale.abs() * used, there * math.prod(grid)
        ):
            at = patch_positions(seen.view(-1, *gradient.shape[1:]), stride, grid, noise)
            if at is not None:
                order = at.argsort().to(units.device)
                each = units[:, order].T.reshape(there, -1, len(units))
                return each.transpose(1, 2), seen[order].sum(1).view(there, -1).sum(1).sign()
        return None

    def _layer_before(self, node: fx.Node) -> fx.Node | None:
        """Return a layer with weights all of whose errors are known with a ReLU's."""
        return next(iter(self.graph.feeding(node)), None)

    def _factor_to(self, node: fx.Node, layer: fx.Node, error: Tensor) -> Tensor:
        """Return the error at a layer's outputs by that at a node's alone."""
        path = self._path(node, layer)
        for each, source in itertools.pairwise(path):
            error = self.graph.pull(each, error)[each.all_input_nodes.index(source)]
        return error

    def _path(self, node: fx.Node, layer: fx.Node) -> list[fx.Node]:
        """Return the nodes from one down to a layer that reaches it unswitched."""
        path = [node]
        while path[-1] is not layer:
            sources = path[-1].all_input_nodes
            path.append(next(n for n in sources if layer in self.graph.reaching(n)))
        return path
