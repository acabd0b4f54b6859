"""Every setting of a run, its meaning, its limits and its default, declared once.

``names`` lists what they may name, ``schema`` declares them, ``rules`` says what a declaration may
ask for, ``parse`` turns Flower's flat run config into :class:`Settings` and back. To add a setting:
a field in ``schema``, and its default under ``[tool.flwr.app.config]`` in pyproject.toml.
"""

from fl_sim.settings.rules import SettingsError
from fl_sim.settings.schema import Settings

__all__ = [
    "Settings",
    "SettingsError",
]
