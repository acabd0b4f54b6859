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

from adversary.common.banded import Banded
from adversary.common.errors import UserError
from adversary.optim.quadratic_models import Quadratic
from adversary.priors.random_field import RandomField
from adversary.problem.problem import Problem
from adversary.problem.residuals import second_directional_derivative
from adversary.problem.sparse_jacobian import SparseJacobian

MIN_BIAS_SIGMAS = 100.0
"""Standard deviations by which the last layer's bias must differ from 0, to divide by it."""

MEMORY_BYTES = 8 * 2**30
"""What J^T J, a damped copy and its factor may take."""


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
        self._wanted, self._sigma = wanted[self.told], deviation[self.told]
        self._encode = lambda images: problem.encode(images)[0, self.told]
        single = problem.to(torch.float32)
        self._jacobian = SparseJacobian(
            lambda images: single.encode(images)[:, self.told],
            torch.zeros(problem.shape, device=problem.device),
        )
        self.evaluations = self._jacobian.tangents
        if 3 * 8 * pixels * (self._jacobian.half_width + 1) > MEMORY_BYTES:
            raise EncodingError(f"the normal equations of {pixels} pixels do not fit in memory")

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

    def normal(self, images: Tensor) -> Banded:
        """Return J^T J, (n, n); of a Jacobian worked out in float32."""
        return self._jacobian.normal(images.float(), 1 / self._sigma)


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


class BandedModel(Quadratic):
    """The quadratic model of the encoding's equations, by a banded Cholesky factor.

    Parameters
    ----------
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
        self, equations: EncodingEquations, images: Tensor, r: Tensor, penalty: RandomField
    ) -> None:
        super().__init__(equations.pullback(images)(r), images, penalty)
        self.normal = equations.normal(images)
        self.evaluations = equations.evaluations
        self._field = penalty

    def factorise(self, weight: float, damping: float) -> bool:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        self.weight = weight
        self._factor = self.normal.plus(self._field.banded, weight, 1 + damping).factor()
        return self._factor is not None

    def solve(self, right: Tensor) -> Tensor:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        assert self._factor is not None
        return self._factor.solve(right)

    def curvature(self, step: Tensor) -> float:
        """See :class:`~adversary.optim.quadratic_models.QuadraticModel`."""
        image = self.weight * self.normal.matvec(step) + self.penalty.matvec(step, 0.0)
        return (step @ image).item()
