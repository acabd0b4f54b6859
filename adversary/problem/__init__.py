"""The inverse problem: from candidate images to the update they would give, and its noise.

:class:`Problem` is one observation with what is known of it; ``update_models`` are the forward
models (one gradient, a surrogate, unrolled local training); ``residuals`` are its equations in
units of their noise; ``gradient_span`` what a layer's gradient tells of each image by itself.
Imports ``common``, ``observation``, ``priors``.

To add a client's optimiser: a function and a line in ``client_optimizers``; a loss: ``losses``; a
forward model: a class and a line in ``update_models``.
"""

from adversary.problem.problem import Problem, build_problem, image_prior
from adversary.problem.residuals import Residuals
from adversary.problem.update_models import UPDATE_MODELS, UpdateModel

__all__ = [
    "UPDATE_MODELS",
    "Problem",
    "Residuals",
    "UpdateModel",
    "build_problem",
    "image_prior",
]
