from __future__ import annotations

import dataclasses

import pytest
import torch

from adversary.observation.observation import Observation
from fl_sim.client_names import client_name, client_number
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.training import local_training


@pytest.mark.parametrize(
    "changes",
    [
        {"local__batch_size": 1},
        {"local__batch_size": 2, "local__max_steps": 2},
        {"local__batch_size": 3, "local__max_steps": 0, "local__epochs": 2},
        {"data__partition": "quantity", "local__batch_size": 1, "local__max_steps": 3},
    ],
)
def test_the_truth_is_what_clients_really_train_on(changes, quick, monkeypatch):
    used = []
    real = local_training.train

    def spy(model, images, labels, recipe, batches, **more):
        used.append((images, torch.cat(list(batches)).tolist()))
        return real(model, images, labels, recipe, batches, **more)

    monkeypatch.setattr(local_training, "train", spy)
    settings = quick(adversary__enabled=False, **changes)
    run_in_process(settings)
    run = build_federation(settings, 3)
    whole = [part.tensor(range(len(part))) for part in run.parts]
    clients = []
    for turn, (images, indices) in enumerate(used):
        [client] = [c for c in range(3) if torch.equal(images, whole[c])]
        clients.append(client)
        observation = Observation(
            round=turn // 3 + 1,
            client=client_name(client),
            sent={},
            returned={},
            num_examples=len(images),
            recipe=run.recipe,
        )
        truth = run.truth(observation)
        together = run.truth(
            dataclasses.replace(
                observation, view="aggregate", client="all", members={client_name(client): 1}
            )
        )
        assert torch.equal(together.images, truth.images)
        distinct = list(dict.fromkeys(indices))
        assert torch.equal(truth.images, images[distinct])
        assert torch.equal(truth.labels, run.parts[client].labels[distinct])
        assert truth.names == tuple(run.parts[client].names[i] for i in distinct)
        assert len(truth.images) == observation.images
    assert sorted(clients) == [0, 0, 1, 1, 2, 2]


def test_names_and_numbers():
    assert [client_number(client_name(n)) for n in (0, 7, 123)] == [0, 7, 123]
    assert client_number("north") is None
    assert client_number("client-x") is None


@pytest.mark.parametrize(("client", "view"), [("client-09", "client"), ("client-00", "aggregate")])
def test_there_is_no_truth_about_others(client, view, quick):
    run = build_federation(quick(), 3)
    observation = Observation(
        round=1, client=client, sent={}, returned={}, num_examples=8, recipe=run.recipe, view=view
    )
    assert run.truth(observation) is None
