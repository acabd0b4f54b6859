"""An honest-but-curious adversary of federated learning; needs torch and no federation.

Rooms, from the ground up; each imports those below it alone, and a test says so:

- ``common``: results, files, seeds, errors
- ``observation``, ``priors``: what the server has, and what is public
- ``problem``: forward models of an update, and their noise
- ``optim``: first-order search, Levenberg-Marquardt; ``bounds``: what no attacker should exceed
- ``labels``, ``certificates``: what an attacker can say; ``scoring``: what it got of the truth
- ``attacks``: the attacks; ``storage``: a run on disk
- ``report``: pages made of what is on disk
"""

import warnings

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

# torch uses torch.jit.script itself, the first time that anything calls forward-mode derivatives.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
