r"""One image's encoding as equations in its pixels, which cost forward passes alone.

The gradient of the last layer for one image is e h^T and e, with its errors e at the outputs and
its encoding h: so h = sum_c G_W[c] G_b[c] / sum_c G_b[c]^2, whatever loss and label, and whatever
factor clipping puts before both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp

from adversary.common.errors import UserError
from adversary.common.nested_dissection import BlockSum, Factor
from adversary.common.seeding import generator
from adversary.optim.conjugate_gradients import conjugate_gradients
from adversary.optim.quadratic_models import Quadratic
from adversary.priors.random_field import RandomField
from adversary.problem.linearised import Linearised
from adversary.problem.problem import Problem
from adversary.problem.residuals import second_directional_derivative
from adversary.problem.sparse_jacobian import SparseJacobian

MIN_BIAS_SIGMAS = 100.0
"""Standard deviations by which the last layer's bias must differ from 0, to divide by it."""

MEMORY_BYTES = 8 * 2**30
"""What J^T J and its factor may take."""

CG_TOLERANCE, CG_ITERATIONS = 1e-4, 300
"""Relative residual of a step's equations, and iterations at most."""

MAX_STALE_ITERATIONS = 40
"""Iterations from which J^T J is worked out again where it is of an earlier place."""

MAX_SHIFT = 1e4
"""Times the prior's precision at most, for J^T J to have a factor in float32."""

CALIBRATION_NOISE = 0.1
"""Deviation of the grey image at which the client's rounding is measured."""


class EncodingError(UserError, ValueError):
    """An update that tells no encoding; one line."""


class EncodingEquations:
    """x -> (f(x) - h)/sigma, (m,), of one image, (1, C, H, W), with f the encoder.

    Parameters
    ----------
    problem : Problem
        In float64.

    Attributes
    ----------
    evaluations : int
        Forward passes that the normal equations take.

    Raises
    ------
    EncodingError
        If it is no update of one image by one step without noise, or does not tell at least as
        many values as there are pixels.
    """

    def __init__(self, problem: Problem) -> None:
        _check(problem)
        wanted, deviation = told_encoding(problem)
        self.told = deviation.isfinite().nonzero()[:, 0]
        pixels = math.prod(problem.shape)
        if len(self.told) < pixels:
            raise EncodingError(
                f"the last layer tells {len(self.told)} values of an image of {pixels} pixels"
            )
        single = problem.to(torch.float32)
        self._encode = lambda images: problem.encode(images)[0, self.told]
        self._encode_single = lambda images: single.encode(images)[:, self.told]
        rounding = _rounding(problem, self._encode, self._encode_single)
        self._wanted = wanted[self.told]
        self._sigma = (deviation[self.told].square() + rounding**2).sqrt()
        blank = torch.zeros(problem.shape, device=problem.device)
        self._jacobian = SparseJacobian(self._encode_single, blank)
        self.evaluations = self._jacobian.tangents
        if self.memory > MEMORY_BYTES:
            raise EncodingError(f"the normal equations of {pixels} pixels do not fit in memory")

    @property
    def memory(self) -> int:
        """Bytes of J^T J and its factor."""
        plan = self._jacobian.dissection
        return 4 * (plan.entries + sum(len(block) ** 2 for block in plan.blocks))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the residuals, (m,)."""
        return (self._encode(images) - self._wanted) / self._sigma

    def __len__(self) -> int:
        """Return m."""
        return len(self._wanted)

    def pullback(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        """Return u -> J^T u, from (m,) to (n,)."""
        pull = vjp(self, images)[1]
        return lambda cotangent: pull(cotangent)[0].flatten()

    def bend(self, images: Tensor, tangent: Tensor) -> Tensor:
        """Return the second derivative along v, (m,), of (1, C, H, W)."""
        return second_directional_derivative(self, images, tangent)

    def in_doubt(self, residual: Tensor) -> Tensor:
        """Return the pixels, (n,), that most of what is left of the residuals depends on."""
        return self._jacobian.in_doubt(residual.cpu())

    def normal(self, images: Tensor) -> BlockSum:
        """Return J^T J, (n, n), worked out in float32."""
        return self._jacobian.normal(images.float(), 1 / self._sigma)

    def products(self, images: Tensor) -> Linearised:
        """Return products with J and its transpose, worked out in float32."""
        scale = 1 / self._sigma.float()
        return Linearised(lambda x: self._encode_single(x)[0] * scale, images.float())


@torch.no_grad()
def _rounding(
    problem: Problem, exact: Callable[[Tensor], Tensor], single: Callable[[Tensor], Tensor]
) -> float:
    """Return the root mean square error of float32 in an encoding, of a noisy grey image."""
    noise = torch.randn(problem.shape, generator=generator(0, "rounding of the encoding"))
    image = (0.5 + CALIBRATION_NOISE * noise).to(problem.device)
    error = exact(image.to(problem.dtype)) - single(image)[0]
    return float(error.square().mean().sqrt())


def _check(problem: Problem) -> None:
    """Refuse what is no plain gradient of one image."""
    seen, reason = problem.observation, ""
    if problem.shape[0] > 1:
        reason = f"the update is of {problem.shape[0]} images, whose encodings it mixes"
    elif seen.steps > 1:
        reason = "several local steps are no single gradient"
    elif seen.recipe.optimizer == "adam" and seen.recipe.update == "weights":
        reason = "steps of Adam tell no gradient of the last layer"
    elif problem.threat.channel.noise:
        reason = "the defence adds noise"
    if reason:
        raise EncodingError(reason)


def told_encoding(problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the encoding that the last layer's gradient tells, and its standard deviation.

    The noise of G_W over the size of G_b, that of G_b, which scales all of h, and the client's own
    rounding of h. Entries that the channel masks tell nothing.

    Parameters
    ----------
    problem : Problem
        Of one image and one step, with the gradient of the last layer and its bias.

    Returns
    -------
    encoding : Tensor
        h, (n_h,), float64; 0 where it is not told.
    deviation : Tensor
        (n_h,), infinite where it is not told.

    Raises
    ------
    EncodingError
        If the bias tells nothing to divide by.
    """
    head = problem.head
    weight, bias = head.weight_gradient, head.bias_gradient
    if weight is None or bias is None:
        raise EncodingError("the gradient of the last layer or its bias was not sent")
    if head.bias_name in problem.threat.channel.observed:
        raise EncodingError("the defence hides entries of the last layer's bias")
    weight, bias = weight.double(), bias.double()
    of_weight, of_bias = problem.noise(head.weight_name), problem.noise(head.bias_name)
    if float(bias.norm()) < MIN_BIAS_SIGMAS * of_bias:
        raise EncodingError("the gradient of the last layer's bias is no larger than its noise")
    seen = problem.threat.channel.observed.get(head.weight_name)
    mask = torch.ones_like(weight) if seen is None else seen.to(weight)
    size = mask.T @ bias.square()
    h = torch.where(size > 0, (mask * weight).T @ bias / size, 0)
    rms = float(h[size > 0].square().mean().sqrt())
    eps = torch.finfo(problem.observation.returned[head.weight_name].dtype).eps
    own = math.hypot(eps, of_bias / float(bias.norm())) * rms
    return h, ((of_weight / size.sqrt()).square() + own**2).sqrt()


class NormalFactor:
    """J^T J at one place and its factor, kept for as long as it preconditions."""

    def __init__(self) -> None:
        self.place: Tensor | None = None
        self._normal: BlockSum | None = None
        self._factor: Factor | None = None
        self._made: tuple[float, float] | None = None

    def take(self, equations: EncodingEquations, images: Tensor) -> None:
        """Work J^T J out at images."""
        self._normal, self.place, self._made = equations.normal(images), images, None

    def prepare(self, weight: float, field: RandomField, damping: float) -> bool:
        """Factorise ``weight`` J^T J + (1 + ``damping``) P; return whether there is a factor."""
        assert self._normal is not None
        if self._made == (weight, damping):
            return self._factor is not None
        self._made, self._factor, shift = (weight, damping), None, 1.0
        while self._factor is None and shift <= MAX_SHIFT:  # rounding may leave it indefinite
            self._factor = self._normal.factor(weight, field.sparse, shift * (1 + damping))
            shift *= 10
        return self._factor is not None

    def solve(self, right: Tensor) -> Tensor:
        """Return what the factorised matrix maps to b, (n,)."""
        assert self._factor is not None
        return self._factor.solve(right.cpu()).to(right)


class EncodingModel(Quadratic):
    """The quadratic model of the encoding's equations, by products that cost forward passes.

    Conjugate gradients, preconditioned by a factor of J^T J at this place or an earlier one.

    Parameters
    ----------
    known : NormalFactor
        That of the step before, or an empty one.
    equations : EncodingEquations
        The residuals.
    images : Tensor
        Where, (1, C, H, W).
    r : Tensor
        Residuals there, (m,).
    penalty : RandomField
        What is added to the misfit.
    """

    def __init__(
        self,
        known: NormalFactor,
        equations: EncodingEquations,
        images: Tensor,
        r: Tensor,
        penalty: RandomField,
    ) -> None:
        super().__init__(equations.pullback(images)(r), images, penalty)
        self._known, self._field = known, penalty
        self._equations, self._images = equations, images
        self._products = equations.products(images)
        if known.place is None:
            self._renew()

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        self.weight, self._damping = weight, damping
        return self._known.prepare(weight, self._field, damping)

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        found = torch.zeros_like(right)
        if self._known.place is not self._images:
            found, done = self._solve(right, found, MAX_STALE_ITERATIONS)
            if done:
                return found
            self._renew()
            if not self._known.prepare(self.weight, self._field, self._damping):
                return found
        return self._solve(right, found, CG_ITERATIONS)[0]

    def curvature(self, step: Tensor) -> float:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        return (step @ self._image(step, 0.0)).item()

    def _renew(self) -> None:
        self._known.take(self._equations, self._images)
        self.evaluations += self._equations.evaluations

    def _image(self, vector: Tensor, damping: float) -> Tensor:
        self.evaluations += 2
        data = self._products.pull(self._products.push(vector))
        return self.weight * data + self.penalty.matvec(vector, damping)

    def _solve(self, right: Tensor, start: Tensor, iterations: int) -> tuple[Tensor, bool]:
        return conjugate_gradients(
            lambda v: self._image(v, self._damping),
            right,
            self._known.solve,
            start=start,
            iterations=iterations,
            tolerance=CG_TOLERANCE,
        )
