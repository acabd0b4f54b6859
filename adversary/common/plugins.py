"""Registries by name, which other packages add to by entry point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from adversary.common.errors import UserError, UserNotice

T = TypeVar("T")


class PluginError(UserError, ValueError):
    """Something from outside that cannot be used; one line that names it and its package."""


class PluginWarning(UserNotice):
    """Something from outside that is left out; one line that names it and its package."""


class Registry(MutableMapping[str, T]):
    """Classes or makers by name: built in, registered in code, or of an entry point, in this order.

    Names are known without importing anything; what an entry point names is imported when it is
    asked for, so a broken package harms nobody who does not use it. No name that is built in can
    be taken.

    Parameters
    ----------
    builtin : mapping
        The project's own.
    group : str
        Group of entry points, each ``name = "module:Class"``.
    fault : callable
        From a name and what it stands for to what is wrong with that, None where nothing is.

    Raises
    ------
    PluginError
        From ``registry[name]`` and ``registry[name] = entry`` where it cannot be used.
    """

    def __init__(
        self,
        builtin: Mapping[str, T],
        *,
        group: str,
        fault: Callable[[str, Any], str | None],
    ) -> None:
        self._builtin = dict(builtin)
        self._registered: dict[str, T] = {}
        self._group = group
        self._fault = fault

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._builtin, *self._registered, *self._found])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._registered or name in self._found

    def __getitem__(self, name: str) -> T:
        for entries in (self._builtin, self._registered):
            if name in entries:
                return entries[name]
        return self._load(self._found[name])

    def __setitem__(self, name: str, entry: T) -> None:
        if name in self._builtin:
            raise PluginError(f"{self._group}: {name} is built in; take another name")
        self._check(name, entry, f"{self._group}: {name}")
        self._registered[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._registered[name]

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        """The entry points by name, without those whose name is taken."""
        found: dict[str, EntryPoint] = {}
        for point in sorted(entry_points(group=self._group), key=lambda p: (p.name, _package(p))):
            if point.name in self._builtin:
                owner = "is built in"
            elif point.name in found and found[point.name].value != point.value:
                owner = f"comes from package {_package(found[point.name])} already"
            else:
                found.setdefault(point.name, point)
                continue
            warnings.warn(
                f"{self._where(point)} is left out: the name {owner}", PluginWarning, stacklevel=2
            )
        return found

    def _load(self, point: EntryPoint) -> T:
        try:
            entry: T = point.load()
        # Code of others may raise anything, and may call sys.exit when it is imported.
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{self._where(point)} cannot be loaded: {reason}") from error
        self._check(point.name, entry, self._where(point))
        return entry

    def _check(self, name: str, entry: T, where: str) -> None:
        if (fault := self._fault(name, entry)) is not None:
            raise PluginError(f"{where}: {fault}")

    def _where(self, point: EntryPoint) -> str:
        return f"{self._group}: {point.name} of package {_package(point)}"


def derived_from(
    base: type, fault: Callable[[str, Any], str | None]
) -> Callable[[str, object], str | None]:
    """Return what is wrong with what is no class of ``base``, or else what ``fault`` says."""

    def found(name: str, entry: object) -> str | None:
        if not (isinstance(entry, type) and issubclass(entry, base)):
            return f"{entry!r} must be a class derived from {_path(base)}"
        return fault(name, entry)

    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
