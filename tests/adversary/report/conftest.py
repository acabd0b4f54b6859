"""Fixtures that are shared between folders."""

from helpers.run_folders import attacked, check, evaluated, folder

__all__ = ["attacked", "check", "evaluated", "folder"]
