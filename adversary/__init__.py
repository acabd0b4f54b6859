"""An honest-but-curious adversary of federated learning; needs torch and no federation.

Rooms, from the ground up; each imports those below it alone, and a test says so:

- ``common``: results, files, seeds, errors
- ``observation``, ``priors``: what the server has, and what is public
- ``problem``: forward models of an update, and their noise
- ``optim``: first-order search, Levenberg-Marquardt; ``bounds``: what no attacker should exceed
- ``labels``, ``certificates``: what an attacker can say; ``scoring``: what it got of the truth
- ``attacks``: the attacks; ``storage``: a run on disk
- ``report``: pages made of what is on disk

What is named here is imported when it is first used, so that errors of settings, which are in
``common``, need no torch.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adversary.attacks.adversary import Adversary
    from adversary.common.results import AttackResult, Reconstruction
    from adversary.observation.observation import Observation, ObservationError
    from adversary.observation.recipe import TrainingRecipe
    from adversary.observation.threat_model import ThreatModel
    from adversary.optim.search import Limits
    from adversary.priors.public import Prior

__all__ = [
    "Adversary",
    "AttackResult",
    "Limits",
    "Observation",
    "ObservationError",
    "Prior",
    "Reconstruction",
    "ThreatModel",
    "TrainingRecipe",
]

_HOMES = {
    "Adversary": "attacks.adversary",
    "AttackResult": "common.results",
    "Limits": "optim.search",
    "Observation": "observation.observation",
    "ObservationError": "observation.observation",
    "Prior": "priors.public",
    "Reconstruction": "common.results",
    "ThreatModel": "observation.threat_model",
    "TrainingRecipe": "observation.recipe",
}

# torch uses torch.jit.script itself, the first time that anything calls forward-mode derivatives.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"adversary.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'adversary' has no attribute {name!r}")
