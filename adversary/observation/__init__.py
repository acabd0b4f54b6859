"""What the server has and knows of a client: the update, the recipe, the channel, the grants.

Also what follows from these alone: the mean gradient of an update, the gradient behind a step of
Adam, the statistics in batch normalisation's buffers. Imports ``common``.

To add an observation of another kind: a value of :attr:`Observation.view`, and a forward model in
:mod:`adversary.problem.update_models`.
"""

from adversary.observation.channel import Channel
from adversary.observation.observation import Observation, ObservationError
from adversary.observation.recipe import TrainingRecipe
from adversary.observation.threat_model import ThreatModel

__all__ = [
    "Channel",
    "Observation",
    "ObservationError",
    "ThreatModel",
    "TrainingRecipe",
]
