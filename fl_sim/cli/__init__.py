"""The command ``fl-sim``: its subcommands, what they print, what they list.

``app`` declares the commands; modules that take long to import are imported inside them. To add a
command: a function with ``@app.command()``.
"""

from fl_sim.cli.app import main

__all__ = [
    "main",
]
