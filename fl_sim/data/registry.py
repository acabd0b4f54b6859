"""The data sets by name, which other packages add to by entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from adversary.common.plugins import PluginError
from fl_sim.data.sources.base import DatasetRequest, DatasetSource

Maker = Callable[[DatasetRequest], DatasetSource]
GROUP = "fl_sim.data"


class DataSets(MutableMapping[str, Maker]):
    """Makers of sources: built in, registered in code, or of an entry point ``fl_sim.data``.

    Names are known without importing anything; what an entry point names is imported when it is
    asked for. No name that is built in can be taken.

    Parameters
    ----------
    builtin : mapping of str to callable
        The project's own.

    Raises
    ------
    PluginError
        From ``datasets[name]`` and ``datasets[name] = maker`` where it cannot be used.
    """

    def __init__(self, builtin: Mapping[str, Maker]) -> None:
        self._builtin = dict(builtin)
        self._registered: dict[str, Maker] = {}

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._builtin, *self._registered, *self._found])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, name: str) -> Maker:
        for makers in (self._builtin, self._registered):
            if name in makers:
                return makers[name]
        return self._load(self._found[name])

    def __setitem__(self, name: str, maker: Maker) -> None:
        if name in self._builtin:
            raise PluginError(f"{GROUP}: {name} is built in; take another name")
        self._registered[name] = _checked(maker, f"{GROUP}: {name}")

    def __delitem__(self, name: str) -> None:
        del self._registered[name]

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        """The entry points by name, without those whose name is taken."""
        points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
        return {point.name: point for point in points[::-1] if point.name not in self._builtin}

    def _load(self, point: EntryPoint) -> Maker:
        package = point.dist.name if point.dist is not None else point.module
        where = f"{GROUP}: {point.name} of package {package}"
        try:
            maker = point.load()
        # Code of others may raise anything, and may call sys.exit when it is imported.
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{where} cannot be loaded: {reason}") from error
        return _checked(maker, where)


def _checked(maker: Maker, where: str) -> Maker:
    if not callable(maker):
        raise PluginError(f"{where}: {maker!r} must be callable, from a Request to a Source")
    return maker
