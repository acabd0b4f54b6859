"""Fixtures that are shared between folders."""

from helpers.runs import _no_drawing, _no_perceptual_metric, earlier, quick, ray_of

__all__ = ["_no_drawing", "_no_perceptual_metric", "earlier", "quick", "ray_of"]
