from importlib import import_module
from importlib.metadata import EntryPoint

import pytest

from fl_sim.data.errors import DataError
from fl_sim.data.loading import DATASETS
from fl_sim.data.sources.base import DatasetRequest
from fl_sim.models.pretrained import IMAGENET
from fl_sim.settings import names
from fl_sim.settings.names import Names

LISTS = {key: value for key, value in vars(names).items() if isinstance(value, Names)}


@pytest.mark.parametrize("key", LISTS)
def test_a_list_is_that_of_its_registry(key):
    listed = LISTS[key]
    module, _, attribute = listed.home.partition(":")
    assert listed.built_in == tuple(getattr(import_module(module), attribute))


def test_what_is_no_registry_is_alike():
    assert names.IMAGENET == IMAGENET
    without = {name for name in DATASETS if "path" not in DATASETS[name].reads}
    assert set(names.WITHOUT_FILES) == without
    for name in names.OF_FILES:
        with pytest.raises(DataError, match="needs a path"):
            DATASETS[name](DatasetRequest(name=name))


def test_plug_ins_are_named_before_their_registry_is_imported(monkeypatch):
    points = [EntryPoint("z", "m:Z", "plugs"), EntryPoint("a", "m:A", "plugs")]
    monkeypatch.setattr(names, "entry_points", lambda group: points if group == "plugs" else [])
    assert Names("not.imported:X", ("b", "z"), group="plugs")() == ("b", "z", "a")
    assert Names("not.imported:X", ("b",), before=("own",), after=("image",))() == (
        "own", "b", "image"
    )  # fmt: skip


def test_a_registry_that_is_imported_is_asked_itself(monkeypatch):
    monkeypatch.setitem(DATASETS, "of-code", DATASETS["sample"])
    assert names.DATASETS()[-1] == "of-code"
