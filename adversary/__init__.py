"""An honest-but-curious adversary of federated learning; needs torch and no federation."""

import warnings

from adversary.attacks.adversary import Adversary, Outcome
from adversary.common.results import Reconstruction
from adversary.observation.observation import Observation, ObservationError, TrainingRecipe
from adversary.observation.threat_model import ThreatModel
from adversary.optim.loop import Limits
from adversary.priors.gaussian import Prior

__all__ = [
    "Adversary",
    "Limits",
    "Observation",
    "ObservationError",
    "Outcome",
    "Prior",
    "Reconstruction",
    "ThreatModel",
    "TrainingRecipe",
]

# torch uses torch.jit.script itself, the first time that anything calls forward-mode derivatives.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
