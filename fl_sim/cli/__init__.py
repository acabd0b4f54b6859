"""The command line."""

from fl_sim.cli.app import main

__all__ = ["main"]
