from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from adversary.identification import Identification, IdentificationResult
from adversary.identification.null import Scores
from adversary.observation.observation import Observation
from fl_sim.data import load
from fl_sim.federation import build_federation
from fl_sim.settings.parse import flatten, parse
from fl_sim.settings.rules import SettingsError

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


def in_files(folder, names):
    """Write X-rays of the sample into folders of their labels; return it by name."""
    private = load("sample", image_size=16).private
    for place in range(6):
        part = folder / names[int(private.labels[place])]
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(private.images[place, 0])).save(part / f"{place}.png")
    return {f"{place}.png": place for place in range(6)}, private


def test_candidates_of_a_file_have_labels_by_their_names_and_nobody_knows_who_trained(tmp_path):
    names = run_of().splits.private.label_names
    written, private = in_files(tmp_path, names)
    run = run_of(**{"adversary.candidates": str(tmp_path)})
    found = run.galleries.of(update(run))
    assert len(found) == 6
    for image, label, name in zip(found.images, found.labels, found.names, strict=True):
        place = written[name.rpartition("/")[2]]
        assert label == private.labels[place]
        assert torch.equal(image, private.tensor([place])[0])
    scores = torch.zeros(6).double()
    others = torch.randn(30).double()
    said = Identification(
        names=found.names, scores=Scores(values=scores, expected=scores, null=others,
        null_expected=others), p_values=scores, posteriors=scores, rate=0.5, seconds=0.0,
    )  # fmt: skip
    outcome = IdentificationResult(seconds=0.0, found=said)
    assert run.scorer().score_identification(update(run), outcome).scored.members is None
    assert len(run.galleries.patients) == 6


def test_what_is_no_number_and_no_file_is_named(tmp_path):
    run = run_of(**{"adversary.candidates": str(tmp_path / "none")})
    with pytest.raises(SettingsError, match="adversary.candidates: .*none"):
        run.adversary()
    with pytest.raises(SettingsError, match="'-3': must be an integer >= 0, or a path"):
        run_of(**{"adversary.candidates": "-3"})
    assert flatten(parse(SETTINGS))["adversary.candidates"] == "40"
