"""Fixtures that are shared between folders."""

from helpers.run_folders import attacked, evaluated, folder

__all__ = ["attacked", "evaluated", "folder"]
