"""Attacks beside the training, in real processes of Ray."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import ray

from adversary.attacks import DLG
from adversary.attacks.adversary import Adversary
from adversary.observation.observation import Observation
from adversary.storage.run_folder import RunFolder
from fl_sim.client_names import client_name
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.offline.reattack import reattack
from fl_sim.workers import ray_queue
from fl_sim.workers.ray_queue import RayQueue, in_ray_cluster
from strategies.attack_queue import Attacked, Unattacked


@pytest.fixture(scope="module", autouse=True)
def _cluster(ray_of):
    ray_of(2)


def table(folder):
    return folder.leakage().drop(columns=["seconds", "lpips"]).to_csv(index=False)


@pytest.fixture
def in_line(monkeypatch):
    return lambda: monkeypatch.setattr("fl_sim.server_app.in_ray_cluster", lambda: False)


def run(settings):
    run_in_process(settings)
    return RunFolder.open(Path(settings.out))


@pytest.fixture(scope="module")
def ended():
    """The table of a run that was not cut short, once there is one."""
    return {}


@pytest.fixture
def whole(quick, tmp_path, monkeypatch, ended):
    """Return the table of a run that was not cut short, attacked in line."""
    if not ended:
        with monkeypatch.context() as patched:
            patched.setattr("fl_sim.server_app.in_ray_cluster", lambda: False)
            folder = run(quick(adversary__workers=1, out=str(tmp_path / "whole")))
        folder.sort()
        ended["table"] = table(folder)
    return ended["table"]


def test_the_same_tables_as_in_line_in_the_same_order(quick, tmp_path, in_line):
    assert in_ray_cluster()
    wanted = {
        "adversary__attack": "dlg,ing",
        "adversary__options": "dlg.iterations=2, ing.iterations=2",
        "adversary__bounds": "auto",
        "data__image_size": 8,
        "local__batch_size": 1,
    }
    beside = run(quick(**wanted, out=str(tmp_path / "beside")))
    in_line()
    before = run(quick(**wanted, out=str(tmp_path / "in-line")))
    before.sort()
    assert len(beside.leakage()) == 2 * 2 * 3
    assert table(beside) == table(before)
    assert beside.info()["status"] == "completed"
    assert beside.recorded_updates() == []  # they only waited there


class Fatal(DLG):
    """Takes its process with it on one client's update."""

    def solve(self, run):
        if run.problem.observation.client == client_name(1):
            os._exit(1)
        return super().solve(run)


@pytest.fixture
def queue_of(quick, tmp_path):
    """Return what makes a queue with one process for an attack."""

    def made(attack):
        run = build_federation(quick(), 3)
        folder = RunFolder.create(tmp_path / attack.name)
        adversary = Adversary(run.model(), image_shape=(1, 16, 16), attacks=[attack(iterations=2)])
        return RayQueue(adversary, run.scorer(), run.threat_model, folder, keep=False, workers=1)

    return made


@pytest.fixture(scope="module")
def started():
    """The queue whose process several tests share, once there is one."""
    return {}


@pytest.fixture
def queue(queue_of, started, tmp_path):
    """Return a queue with nothing in it, on a run of its own."""
    if not started:
        started["queue"] = queue_of(DLG)
    queue = started["queue"]
    assert not queue.pending
    queue.folder, queue.limit = RunFolder.create(tmp_path / "queue"), 64
    return queue


@pytest.fixture
def updates(quick):
    """Return an update of each client."""
    run = build_federation(quick(), 3)
    return [observed(run, client) for client in range(3)]


def observed(run, client):
    from fl_sim.training.local_training import train

    model, part = run.model(), run.parts[client]
    sent = {n: v.clone() for n, v in model.state_dict().items()}
    train(model, run.training_inputs(1, client), part.labels, run.recipe, run.batches(1, client),
          device="cpu")  # fmt: skip
    return Observation(
        round=1,
        client=client_name(client),
        sent=sent,
        returned=dict(model.state_dict()),
        num_examples=len(part),
        recipe=run.recipe,
    )


def drained(queue):
    found = []
    while queue.pending:
        found += queue.results(60)
    return {one.client: one for one in found}


def test_a_process_that_dies_costs_its_own_attack_alone(queue_of, updates):
    queue = queue_of(Fatal)
    for update in updates:
        queue.submit(update)
    found = drained(queue)
    assert all(isinstance(one, Attacked) for one in found.values())
    failures = {client: one.outcome.failure for client, one in found.items()}
    assert failures[client_name(0)] is failures[client_name(2)] is None
    assert failures[client_name(1)].startswith("the attack's process ended: ")


def test_attacks_come_after_the_training_and_are_not_idle(queue, updates):
    queue.submit(updates[0])
    drained(queue)
    [worker] = queue._free  # asked itself: processes of earlier queues may still be ending
    asked = worker.__ray_call__.remote(lambda _: (os.nice(0), os.sched_getscheduler(0)))
    niceness, policy = ray.get(asked)
    assert niceness == 19  # 15 of all that Ray starts and 10: no more is possible
    assert policy == os.SCHED_OTHER


def test_what_waits_is_in_the_folder_and_there_is_an_end_to_it(queue, updates):
    queue.limit = 2
    waiting = []
    for update in updates:
        assert not queue.full
        queue.submit(update)
        queue.flush()
        waiting.append(len(queue.folder.recorded_updates()))
    assert queue.full  # one is attacked, two wait
    assert waiting == [1, 2, 3]
    assert len(drained(queue)) == 3
    assert queue.folder.recorded_updates() == []


def test_an_update_that_was_damaged_where_it_alone_waited_is_told(queue, updates, monkeypatch):
    monkeypatch.setattr(ray_queue, "MAX_HELD_BYTES", 0)
    for update in updates:
        queue.submit(update)
    queue.flush()
    damaged = queue.folder.recorded_updates()[-1]
    damaged.write_bytes(b"no tensors")
    found = drained(queue)
    assert isinstance(found[client_name(2)], Unattacked)
    assert damaged.name in found[client_name(2)].reason


def test_an_update_that_cannot_be_written_is_told_and_the_others_are_attacked(
    queue, updates, monkeypatch
):
    save = Observation.save

    def full(observation, path, **kwargs):
        if observation.client == client_name(1):
            raise OSError(28, "No space left on device")
        return save(observation, path, **kwargs)

    monkeypatch.setattr(Observation, "save", full)
    for update in updates:
        queue.submit(update)
    found = drained(queue)
    assert isinstance(found[client_name(1)], Unattacked)
    assert "No space left on device" in found[client_name(1)].reason
    assert all(isinstance(found[client_name(k)], Attacked) for k in (0, 2))


def test_an_update_of_another_model_is_told(queue, updates):
    other, changed = (
        {name: value[..., :1].clone() for name, value in state.items()}
        for state in (updates[0].sent, updates[0].returned)
    )
    queue.submit(dataclasses.replace(updates[0], sent=other, returned=changed))
    [found] = drained(queue).values()
    assert "another model" in found.outcome.failure


def test_a_run_that_ended_before_its_attacks_gets_those_that_are_missing(quick, monkeypatch, whole):
    settings = quick(adversary__workers=1)

    def killed(self, timeout=0.0):
        if self.pending == 3:
            raise KeyboardInterrupt
        return iter(())

    with monkeypatch.context() as patch:
        patch.setattr(RayQueue, "results", killed)
        with pytest.raises(KeyboardInterrupt):
            run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert (folder.info()["status"], len(folder.leakage())) == ("stopped", 0)
    assert len(folder.recorded_updates()) == 3  # of the round it was in
    reattack(folder.path, missing=True)
    assert table(folder).splitlines() == whole.splitlines()[: 1 + 3 * 2]
    assert folder.recorded_updates() == []


def test_a_resumed_run_attacks_what_was_left_waiting(quick, monkeypatch, whole):
    settings = quick(adversary__workers=1)

    def killed(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RayQueue, "results", lambda self, timeout=0.0: iter(()))
        patch.setattr("strategies.honest_but_curious.HonestButCurious._end_of_training", killed)
        with pytest.raises(KeyboardInterrupt):
            run_in_process(settings)
    folder = RunFolder.open(Path(settings.out))
    assert len(folder.recorded_updates()) == 6
    run_in_process(dataclasses.replace(settings, resume=True))
    assert table(folder) == whole
    assert folder.info()["status"] == "completed"
