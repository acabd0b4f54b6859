"""Parameters of strategies, defences and attacks: settings whose names the registries tell.

``strategy.KEY`` and ``defence.KEY`` are parameters of the strategy and the defence,
``adversary.ATTACK.KEY`` one of an attack: in TOML tables ``[strategy]``, ``[defence]`` and
``[adversary.ATTACK]``. Flower's run config takes no key that is not declared, so there they travel
as text, ``KEY=VALUE`` joined by commas, in the section's ``options``; that form is read wherever
settings are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adversary.common.convert import Value, to_text
from fl_sim.settings.rules import SettingsError, split_list


class Options(Mapping[str, Value]):
    """Parameters by name, which do not change; its text is what a run config holds."""

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __str__(self) -> str:
        return ", ".join(f"{key}={to_text(value)}" for key, value in self._values.items())

    def __repr__(self) -> str:
        return f"Options({self._values!r})"


def parse_options(text: str, setting: str) -> Options:
    """Split ``"a=1, b=x"`` into ``{"a": "1", "b": "x"}``.

    Raises
    ------
    SettingsError
        Naming ``setting``, if a part is not KEY=VALUE.
    """
    options: dict[str, Value] = {}
    for part in split_list(text):
        key, equals, value = part.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise SettingsError(f"{setting} = {text!r}: {part!r} is not KEY=VALUE")
        options[key.strip()] = value.strip()
    return Options(options)
