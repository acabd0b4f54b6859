from __future__ import annotations

import sys
import warnings
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from adversary.common import plugins
from adversary.common.plugins import PluginError, PluginWarning, Registry, derived_from


class Base:
    pass


class Ours(Base):
    pass


class Theirs(Base):
    pass


class Unfit(Base):
    pass


@pytest.fixture
def registry(monkeypatch):
    def make(**points: str) -> Registry:
        found = [EntryPoint(name, value, "tests.group") for name, value in points.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)
        return Registry(
            {"ours": Ours},
            group="tests.group",
            fault=derived_from(Base, lambda name, cls: "does not fit" if cls is Unfit else None),
        )

    return make


def here(name: str) -> str:
    return f"{__name__}:{name}"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Let this module be imported by its name, which pytest's importlib mode does not promise."""
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(**globals()))


def test_a_class_is_imported_only_when_it_is_asked_for(registry):
    classes = registry(theirs=here("Theirs"), broken="no_such_module:Class")
    assert list(classes) == ["ours", "broken", "theirs"]
    assert (len(classes), "broken" in classes, "absent" in classes) == (3, True, False)
    assert classes["theirs"] is Theirs
    with pytest.raises(PluginError) as said:
        classes["broken"]
    assert str(said.value) == (
        "tests.group: broken of package no_such_module cannot be loaded: "
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    with pytest.raises(KeyError):
        classes["absent"]


@pytest.mark.parametrize(
    ("target", "said"), [("Unfit", "does not fit"), ("here", "must be a class derived from ")]
)
def test_what_is_no_such_class_is_refused_in_one_line(target, said, registry):
    with pytest.raises(PluginError, match=said) as error:
        registry(theirs=here(target))["theirs"]
    assert str(error.value).startswith("tests.group: theirs of package ")
    assert "\n" not in str(error.value)


def test_nothing_takes_a_name_that_is_built_in(registry):
    classes = registry(ours=here("Theirs"))
    with pytest.warns(PluginWarning, match="tests.group: ours of package .* is built in"):
        assert list(classes) == ["ours"]
    assert classes["ours"] is Ours
    with warnings.catch_warnings():  # told once
        warnings.simplefilter("error")
        assert list(classes) == ["ours"]
    with pytest.raises(PluginError, match="ours is built in"):
        classes["ours"] = Theirs
    with pytest.raises(KeyError):
        del classes["ours"]


def test_two_packages_with_one_name_leave_the_first(registry, monkeypatch):
    classes = registry()
    points = [EntryPoint("theirs", v, "tests.group") for v in ("a_module:A", "b_module:B")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    with pytest.warns(PluginWarning, match="b_module is left out.*package a_module already"):
        assert list(classes) == ["ours", "theirs"]


def test_classes_are_registered_in_code(registry):
    classes = registry()
    classes["mine"] = Theirs
    assert classes["mine"] is Theirs
    with pytest.raises(PluginError, match="bad: does not fit"):
        classes["bad"] = Unfit
    del classes["mine"]
    assert list(classes) == ["ours"]
