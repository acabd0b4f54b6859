"""Fixtures that are shared between folders."""

from helpers.foreign_app import flower_log, foreign, recipe

__all__ = ["flower_log", "foreign", "recipe"]
