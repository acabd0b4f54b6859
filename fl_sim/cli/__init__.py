"""The command ``fl-sim``: its subcommands, what they print, what they list.

``app`` declares the commands, ``options`` reads what they are given, ``running`` runs a federation
for them. Modules that take long to import are imported inside functions. To add a command: a
function with ``@app.command()`` in ``app``.
"""

from fl_sim.cli.app import main

__all__ = [
    "main",
]
