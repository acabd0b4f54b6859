from __future__ import annotations

import dataclasses

import pytest
import torch

from adversary.observation.observation import Observation
from fl_sim.federation import build_federation
from fl_sim.settings.parse import parse

SETTINGS = {
    "rounds": 3, "clients": 2, "device": "cpu", "data.name": "sample", "data.image-size": 16,
    "data.sizes": "6, 30", "local.batch-size": 4, "local.max-steps": 2, "adversary.candidates": 40,
}  # fmt: skip


def run_of(**changes):
    return build_federation(parse(SETTINGS | changes), 2)


def update(run, client="client-01", round=1, members=None):
    return Observation(
        round=round, client=client, sent={}, returned={}, num_examples=30, recipe=run.recipe,
        members=members or {},
    )  # fmt: skip


def trained(run, client):
    """By going through all rounds."""
    every = [run.used_indices(round, client) for round in (1, 2, 3)]
    return {run.parts[client].names[i] for used in every for i in used}


@pytest.mark.parametrize("seed", [1, 7])
def test_those_who_train_in_any_round_are_among_so_many_others(seed):
    run = run_of(seed=seed)
    found = run.galleries.of(update(run))
    inside = trained(run, 1)
    assert len(found) == len(inside) + 40
    assert inside < set(found.names)
    again = run.galleries.of(update(run, round=3))
    assert again.names == found.names
    place = {name: i for i, name in enumerate(run.splits.private.names)}
    for image, label, name in zip(found.images, found.labels, found.names, strict=True):
        if name in place:
            assert torch.equal(image, run.splits.private.tensor([place[name]])[0])
            assert label == run.splits.private.labels[place[name]]


def test_others_are_no_patients_of_those_who_train():
    run = run_of()
    private = run.splits.private
    twice = dataclasses.replace(private, patients=("one patient",) * len(private))
    run = dataclasses.replace(run, splits=dataclasses.replace(run.splits, private=twice))
    found = run.galleries.of(update(run))
    assert not (set(found.names) - trained(run, 1)) & set(private.names)


def test_an_aggregate_is_of_all_its_members_and_none_is_everyone():
    run = run_of(**{"adversary.candidates": 0})
    whole = len(run.splits.private) + len(run.splits.test)
    assert len(run.galleries.of(update(run))) == whole
    few = run_of(**{"adversary.candidates": 5})
    found = few.galleries.of(update(few, "aggregate", members={"client-00": 6, "client-01": 30}))
    assert set(found.names) > trained(few, 0) | trained(few, 1)


def test_the_order_says_nothing_of_who_trained():
    run = run_of(**{"adversary.candidates": 400})
    found = run.galleries.of(update(run))
    inside = trained(run, 1)
    places = torch.tensor([i for i, name in enumerate(found.names) if name in inside]).float()
    spread = len(found) / (12 * len(inside)) ** 0.5
    assert abs(float(places.mean()) - len(found) / 2) < 4 * spread
