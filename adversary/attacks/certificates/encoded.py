r"""The posterior of one image whose encoding is told, without the Jacobian of the update.

The precision H = J^T J / T + P of :mod:`adversary.attacks.certificates.posterior` is applied to
vectors by products alone. The encoding's own equations are a part of the update's, and their J^T J
is sparse: its Cholesky factor, with a sparse prior, is a preconditioner M that H exceeds only where
the other layers tell more. So r^T M^-1 r limits the squared error of a solution, in standard
deviations of the posterior. Errors are drawn instead of inverting H: with errors of rounding e,
simulated as the client makes them, and draws x of the prior, H^-1 (J^T e / sqrt(T) + P (x - mu))
has the posterior's covariance ("perturb and optimise", Papandreou and Yuille 2010), and is what the
same solver makes of the same errors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from adversary.attacks.certificates.posterior import (
    PRIOR_DRAWS,
    Posterior,
    curvature,
    determined,
    share_of_prior,
    truncated,
)
from adversary.common.nested_dissection import BlockSum, Factor
from adversary.common.seeding import generator
from adversary.optim.conjugate_gradients import batched_conjugate_gradients
from adversary.priors.gaussian import GaussianPrior
from adversary.priors.random_field import RandomField
from adversary.problem.linearised import Linearised
from adversary.problem.residuals import Residuals

DRAWN_PIXELS, FEWEST_DRAWS, MOST_DRAWS = 2**15, 4, 64
"""Pixels of all simulated errors together, and how many errors these are: those of a large image
average by themselves, of a small one it takes many to tell how its error varies."""

PRODUCTS_PER_DRAW = 28
"""Products of J and J^T with vectors that conjugate gradients take for one draw, roughly."""

CONVERGED_STEP = 1e-3
"""Squared step for every pixel, in standard deviations, from which on nothing moves."""

DRAW_ERROR = 1e-3
"""Mean squared error of a draw, in standard deviations, at which it will do."""

CG_ITERATIONS = 200
"""Of conjugate gradients, at most."""

OTHER_LAYERS_SHARE = 3e-4
"""What the other layers tell of any direction, of what the update tells on average, roughly."""


def draw_count(pixels: int) -> int:
    """Return how many errors tell the spread of an image of so many pixels."""
    return max(FEWEST_DRAWS, min(MOST_DRAWS, DRAWN_PIXELS // pixels))


def spares_columns(pixels: int) -> bool:
    """Return whether the draws of an image cost less than its Jacobian, a product a pixel."""
    return PRODUCTS_PER_DRAW * draw_count(pixels) < pixels


class Encoded:
    """The posterior at an estimate, at any temperature; see :class:`~.posterior.Laplace`.

    Parameters
    ----------
    equations : Residuals
        Of the whole update of one image, in float64, calibrated near the estimate.
    images : Tensor
        (1, C, H, W), the estimate; not clamped.
    prior : GaussianPrior
        Of an image.
    normal : BlockSum
        J^T J of the encoding's equations, near the estimate.

    Attributes
    ----------
    joint : bool
        That it is the covariance of all images together.
    residual : Tensor
        (m,), at the estimate.
    evaluations : int
        Products of J and J^T with vectors so far.
    """

    joint = True

    def __init__(
        self, equations: Residuals, images: Tensor, prior: GaussianPrior, normal: BlockSum
    ) -> None:
        self.equations, self.images, self.prior = equations, images, prior
        self._normal, self._field = normal, RandomField(prior)
        self._jacobian = Linearised(equations, images)
        self.residual = self._jacobian.value
        probe = torch.randn(len(self.residual), generator=generator(0, "probe")).to(images)
        # E z z^T = I, so that this estimates the mean diagonal entry of J^T J (Hutchinson).
        self._others = OTHER_LAYERS_SHARE * float(self._jacobian.pull(probe).square().mean())
        self.evaluations = 2

    def moved(self, temperature: float = 1.0) -> Tensor:
        """Return where one step of Gauss and Newton leads; the estimate itself where it settled.

        Where conjugate gradients do not come to an end, as far as they came.
        """
        return self._moved(temperature)[0]

    def _moved(self, temperature: float) -> tuple[Tensor, bool]:
        """Return where a step leads, and whether it is a whole one."""
        away = (self.images - self.prior.mean).flatten(1)
        pull = self._jacobian.pull(self.residual / temperature) + self.prior.precision_matvec(away)
        step, done = self._solved(-pull, temperature, CONVERGED_STEP * self.images.numel())
        moved = self.images + step.view_as(self.images) if bool(step.any()) else self.images
        return moved, done

    def at(self, temperature: float = 1.0, *, seed: int = 0, steps: int = 0) -> Posterior:
        """See :meth:`~.posterior.Laplace.at`; ``variance`` is estimated from draws.

        Raises
        ------
        ValueError
            If conjugate gradients do not come to an end.
        """
        images, whole = self._moved(temperature) if steps else (self.images, True)
        count = draw_count(images.numel())
        errors = self.equations.errors(self.images, count, seed)
        drawn = self.prior.sample(count, generator=generator(seed, "posterior"))
        away = (drawn - self.prior.mean).flatten(1)
        pulls = torch.stack([self._jacobian.pull(error) for error in errors]) / temperature**0.5
        by_prior = self.prior.precision_matvec(away.to(pulls))
        rows = torch.cat([pulls + by_prior, by_prior[:PRIOR_DRAWS]])
        solved, done = self._solved(rows, temperature, DRAW_ERROR * images.numel())
        draws, of_prior = solved[:count], solved[count:]
        if not (whole and done):
            raise ValueError("the posterior's equations are not solved: they are too uneven")
        variance = draws.square().mean(0).view_as(images)
        within, spread = truncated(images, variance)
        told = (draws * self.prior.precision_matvec(draws)).sum(1).mean()
        parameters = images.numel() - float(told.clamp(0, images.numel()))
        shaped = draws.view(-1, *images.shape)
        return Posterior(
            images=within.detach(),
            estimate=images.detach(),
            settled=True,
            variance=spread.detach(),
            parameters=parameters,
            by_array=determined(self._jacobian, self.equations.counts, shaped, temperature),
            freedom=_freedom(draws),
            by_prior=share_of_prior(of_prior, variance),
            curvature=curvature(
                self.equations,
                self._jacobian if images is self.images else Linearised(self.equations, images),
                *(shaped, parameters, temperature),
            ),
        )

    def _solved(self, rights: Tensor, temperature: float, enough: float) -> tuple[Tensor, bool]:
        """Return H^-1 b of rows, (k, n), and whether the squared error is ``enough``."""
        size = self.prior.size
        own = self._field.sparse + self._others / temperature * eye_array(size)
        factor = self._normal.factor(1 / temperature, csr_array(own), 1.0)
        if factor is None:
            raise ValueError("the posterior precision is singular")

        def precision(vectors: Tensor) -> Tensor:
            self.evaluations += 2 * len(vectors)
            jacobian = self._jacobian
            pulled = [jacobian.pull(jacobian.push(one) / temperature) for one in vectors]
            return torch.stack(pulled) + self.prior.precision_matvec(vectors)

        return batched_conjugate_gradients(
            precision, rights, _rows(factor), enough=enough, iterations=CG_ITERATIONS
        )


def _rows(factor: Factor) -> Callable[[Tensor], Tensor]:
    """Return what solves for rows, (k, n)."""
    return lambda vectors: factor.solve(vectors.T.cpu()).T.to(vectors)


def _freedom(draws: Tensor) -> Tensor:
    """Return tr(C)^2 / tr(C^2) from draws of covariance C, (k, n), as (1,)."""
    products = draws @ draws.T
    squares = products.diagonal()
    k = len(draws)
    trace = squares.mean()
    pairs = (products.square().sum() - squares.square().sum()) / (k * (k - 1))
    return (trace.square() / pairs).clamp(1, draws.shape[1])[None]
