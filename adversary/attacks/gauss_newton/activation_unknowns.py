"""Past the kinks of a ReLU network: which units are on is solved for with the images.

The gradient of a ReLU network jumps in the images where a unit switches, and no derivative tells
of a jump. With every unit told whether it is on, z_u s_u in the place of max(z_u, 0), the gradient
is a smooth function of images and switches s, and the true ones explain the update exactly. Near
the images only units with inputs z_u about zero are in doubt; a Gauss-Newton step over the pixels
and their switches together leaves open on which side of its kink each lies. A step ends in the
images alone, which tell the switches anew. The kinks of max pooling are left as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from adversary.common.results import IterationRecord
from adversary.optim.levenberg_marquardt import DescentOptions, Iterate
from adversary.optim.prior_terms import PriorTerm
from adversary.optim.quadratic_models import symmetric_product
from adversary.optim.search import Search
from adversary.problem.problem import Problem
from adversary.problem.residuals import COLUMNS_PER_CHUNK, Residuals

UNKNOWNS_PER_PIXEL = 0.6
"""Switches in doubt for an unknown pixel."""

PATTERN_STD = 0.5
"""Standard deviation of a switch in doubt about what it is at the present images, 0 or 1."""

MIN_DECREASE = 0.5
"""Factor by which the misfit must fall in :data:`PATIENCE_STEPS` steps."""

PATIENCE_STEPS = 2


class _ActivationTape:
    """Switches of all units, in the order in which a network comes to its activations."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.told: Iterator[Tensor] | None = None


class _Switch(nn.Module):
    """A ReLU whose units are on as the tape tells; it notes their inputs where none is told."""

    def __init__(self, tape: _ActivationTape) -> None:
        super().__init__()
        self.tape = tape

    def forward(self, inputs: Tensor) -> Tensor:
        if self.tape.told is not None:
            return inputs * next(self.tape.told)
        self.tape.inputs.append(inputs.detach())
        return inputs.relu()


class ActivationResiduals:
    """An update as equations in the pixels and in the switches of ReLU units.

    Parameters
    ----------
    equations : Residuals
        Of a network with ReLUs.
    """

    def __init__(self, equations: Residuals) -> None:
        problem = equations.problem
        model, self._tape = copy.deepcopy(problem.model), _ActivationTape()
        for module in list(model.modules()):
            for name, child in module.named_children():
                if type(child) is nn.ReLU:
                    setattr(module, name, _Switch(self._tape))
        self._problem = dataclasses.replace(problem, model=model)
        self._equations = Residuals(
            self._problem, equations.targets, equations.picks, equations.sigma
        )

    @staticmethod
    def suits(problem: Problem) -> bool:
        """Whether one pass through the network makes the update, so that a unit is on or off."""
        several = problem.observation.steps > 1 and problem.observation.view == "client"
        return not several and math.isinf(problem.threat.channel.example_clip)

    def inputs(self, images: Tensor) -> list[Tensor]:
        """Return the inputs of all ReLUs at images, (B, ...) each."""
        self._tape.told, self._tape.inputs = None, []
        with torch.no_grad():
            self._problem.model(images)
        return self._tape.inputs

    def __call__(self, images: Tensor, switches: Sequence[Tensor]) -> Tensor:
        """Return the residuals, (m,), with units as told: 1 is on, 0 is off."""
        self._tape.told = iter(switches)
        return self._equations(images)

    def rows(self, images: Tensor, count: int) -> Tensor:
        """Return the transposed Jacobian, (n + k, m), of pixels and of k switches in doubt.

        In doubt are those ``count`` units whose inputs are least beside those of their layer.
        """
        inputs = self.inputs(images)
        switches = [(z > 0).to(z) for z in inputs]
        near = torch.cat([(z.abs() / z.square().mean().sqrt()).flatten() for z in inputs])
        doubtful = near.topk(min(count, len(near)), largest=False).indices
        pixels, sizes = images.numel(), [z.numel() for z in inputs]

        def push(vector: Tensor) -> Tensor:
            turned = vector.new_zeros(len(near)).index_put((doubtful,), vector[pixels:])
            tangents = [t.view_as(z) for t, z in zip(turned.split(sizes), inputs, strict=True)]
            return jvp(
                lambda x, *s: self(x, s),
                (images, *switches),
                (vector[:pixels].view_as(images), *tangents),
            )[1]

        basis = torch.eye(pixels + len(doubtful), dtype=images.dtype, device=images.device)
        return torch.cat([vmap(push)(part) for part in basis.split(COLUMNS_PER_CHUNK)])


def solve_activations(
    equations: Residuals,
    place: Iterate,
    prior_term: PriorTerm,
    search: Search,
    options: DescentOptions,
) -> Iterate:
    """Take steps over pixels and switches until the residuals are at the target or do not fall.

    The noise of a step is taken as large as the misfit that it leaves (discrepancy principle,
    Morozov 1966): far from the images that is the curvature that the step neglects. Residuals jump
    where units switch, so that progress is told by the misfit with the switches in doubt left open.
    Arguments are those of :class:`adversary.optim.levenberg_marquardt.LevenbergMarquardt`.

    Returns
    -------
    Iterate
        That of the least residual, the first one included.
    """
    switched = ActivationResiduals(equations)
    best = Iterate(place.images, equations(place.images))
    images, residual = best.images, best.residual
    misfits: list[float] = []
    for _ in range(options.iterations):
        if search.exhausted():
            break
        rows = switched.rows(images, int(UNKNOWNS_PER_PIXEL * images.numel()))
        search.evaluations += len(rows)
        step, misfit = _step(rows, residual, images, prior_term)
        images = images + step
        residual = equations(images)
        reached, count = Iterate(images, residual), len(search.history)
        search.history.append(
            IterationRecord(options.restart, count, reached.chi_square, search.seconds)
        )
        misfits.append(misfit)
        if reached.chi_square < best.chi_square:
            best = reached
        stuck = (
            len(misfits) > PATIENCE_STEPS
            and not misfit < MIN_DECREASE * misfits[-1 - PATIENCE_STEPS]
        )
        if best.chi_square < options.target or stuck:
            break
    return best


def _step(
    rows: Tensor, residual: Tensor, images: Tensor, penalty: PriorTerm
) -> tuple[Tensor, float]:
    """Return a step of the images, and the mean square of what it and the switches leave."""
    pixels = images.numel()
    normal, slope = symmetric_product(rows, COLUMNS_PER_CHUNK), rows @ residual
    pull = penalty.gradient(images)
    temperature, damping = 1.0, 0.0
    while True:
        damped, right = normal / temperature, -slope / temperature
        penalty.rescale(damped.diagonal()[:pixels].mean().item())
        penalty.add(damped[:pixels, :pixels], damping)
        damped.diagonal()[pixels:] += PATTERN_STD**-2
        right[:pixels] -= pull
        factor, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            damping = max(1e-8, 10 * damping)
            continue
        found = torch.cholesky_solve(right[:, None], factor)[:, 0]
        misfit = float((residual + found @ rows).square().mean())
        if not misfit > 1.5 * temperature:
            return found[:pixels].view_as(images), misfit
        temperature = misfit
