"""Registries of classes by name, which other packages add to by entry point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from adversary.common.errors import UserError, UserNotice

T = TypeVar("T")


class PluginError(UserError, ValueError):
    """A class from outside that cannot be used; one line that names it and its package."""


class PluginWarning(UserNotice):
    """A class from outside that is left out; one line that names it and its package."""


class Registry(MutableMapping[str, type[T]]):
    """Classes by name: built in, registered in code, or found by entry point, in this order.

    Names are known without importing anything; the class of an entry point is imported when it
    is asked for, so a broken package harms nobody who does not use it. No name that is built in
    can be taken by another class.

    Parameters
    ----------
    builtin : mapping of str to type
        The project's own classes.
    group : str
        Group of entry points, each ``name = "module:Class"``.
    base : type
        What every class must be derived from.
    fault : callable
        From a name and a class to what is wrong with it, None where nothing is.

    Raises
    ------
    PluginError
        From ``registry[name]`` and ``registry[name] = cls`` where the class cannot be used.
    """

    def __init__(
        self,
        builtin: Mapping[str, type[T]],
        *,
        group: str,
        base: type[T],
        fault: Callable[[str, type[T]], str | None],
    ) -> None:
        self._builtin = dict(builtin)
        self._registered: dict[str, type[T]] = {}
        self._group = group
        self._base = base
        self._fault = fault

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._builtin, *self._registered, *self._found])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._registered or name in self._found

    def __getitem__(self, name: str) -> type[T]:
        for classes in (self._builtin, self._registered):
            if name in classes:
                return classes[name]
        return self._load(self._found[name])

    def __setitem__(self, name: str, cls: type[T]) -> None:
        if name in self._builtin:
            raise PluginError(f"{self._group}: {name} is built in; take another name")
        self._check(name, cls, f"{self._group}: {name}")
        self._registered[name] = cls

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

    def _load(self, point: EntryPoint) -> type[T]:
        try:
            cls = point.load()
        # Code of others may raise anything, and may call sys.exit when it is imported.
        except (Exception, SystemExit) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{self._where(point)} cannot be loaded: {reason}") from error
        self._check(point.name, cls, self._where(point))
        return cls

    def _check(self, name: str, cls: type[T], where: str) -> None:
        if not (isinstance(cls, type) and issubclass(cls, self._base)):
            raise PluginError(f"{where}: {cls!r} must be a class derived from {_path(self._base)}")
        if (fault := self._fault(name, cls)) is not None:
            raise PluginError(f"{where}: {fault}")

    def _where(self, point: EntryPoint) -> str:
        return f"{self._group}: {point.name} of package {_package(point)}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
