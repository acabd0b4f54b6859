"""An honest-but-curious adversary of federated learning; needs torch and no federation."""

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
