"""Reconstructions against the truth: metrics of images, scores, the verdict in words.

The only room beside ``bounds`` that sees the truth. Imports ``common``, ``observation``,
``priors``, ``bounds``. To add a metric: a function in ``metrics``, a field of :class:`ImageScore`,
a column in :mod:`adversary.storage.schemas`.
"""

from adversary.scoring.image_scores import ImageScore, score_images
from adversary.scoring.scorer import ScoredResult, Scorer
from adversary.scoring.verdict import Evidence, Severity, severity_of

__all__ = [
    "Evidence",
    "ImageScore",
    "ScoredResult",
    "Scorer",
    "Severity",
    "score_images",
    "severity_of",
]
