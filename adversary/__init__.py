"""An honest-but-curious adversary of federated learning; needs torch and no federation."""

import warnings

from adversary.adversary import Adversary, Outcome
from adversary.observation import Observation, ObservationError, TrainingRecipe
from adversary.optimise import Limits
from adversary.priors import Prior
from adversary.reconstruction import Reconstruction
from adversary.threat import ThreatModel

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
