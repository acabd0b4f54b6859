"""Fixtures that are shared between folders."""

from helpers.foreign_app import flower_log, foreign, recipe
from helpers.runs import _no_drawing

__all__ = ["_no_drawing", "flower_log", "foreign", "recipe"]
