"""What can befall the attacks beside the training: kill -9, a file that is changed, Ctrl-C."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from adversary.attacks import DLG
from adversary.attacks.adversary import Adversary
from adversary.observation.observation import Observation
from adversary.report import run_page
from adversary.storage.run_folder import RunFolder
from fl_sim.client_names import client_name
from fl_sim.engines.in_process import run_in_process
from fl_sim.federation import build_federation
from fl_sim.workers import ray_queue
from fl_sim.workers.ray_queue import RayQueue
from strategies.attack_queue import Unattacked


@pytest.fixture(scope="module", autouse=True)
def _cluster(ray_of):
    ray_of(1)


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr(run_page, "render", lambda folder: folder.path / "report.html")


class Killed(DLG):
    """Is killed with its process, by the system, whenever it attacks one client."""

    def solve(self, run):
        if run.problem.observation.client == client_name(1):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().solve(run)


def attacked(settings, tmp_path, attack, between=lambda folder: None):
    """Attack an update of each of three clients; return what is found of each."""
    run = build_federation(settings, 3)
    folder = RunFolder.create(tmp_path / "queue")
    adversary = Adversary(run.model(), image_shape=(1, 16, 16), attacks=[attack(iterations=1)])
    queue = RayQueue(adversary, run.scorer(), run.threat_model, folder, keep=True, workers=1)
    sent = run.model().state_dict()
    returned = {name: value * 0.99 if value.is_floating_point() else value
                for name, value in sent.items()}  # fmt: skip
    for client in range(3):
        queue.submit(
            Observation(
                round=1, client=client_name(client), sent=sent, returned=returned, num_examples=1,
                recipe=run.recipe,
            )
        )  # fmt: skip
    queue.flush()
    between(folder)
    found = []
    while queue.pending:
        found += queue.results(60)
    assert len(folder.recorded_updates()) == 3
    return {one.client: one for one in found}


def test_kill_9_of_a_worker_costs_its_own_attack_alone(quick, tmp_path):
    found = attacked(quick(), tmp_path, Killed)
    failures = {client: one.outcome.failure for client, one in found.items()}
    ended = "the attack's process ended: "
    assert failures.pop(client_name(1)).startswith(ended)
    assert failures == {client_name(0): None, client_name(2): None}  # before and after


def test_an_update_changed_while_it_waits_is_told_and_not_attacked(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_queue, "MAX_HELD_BYTES", 0)

    def change(folder):
        path = folder.recorded_updates()[-1]
        tensors = load_file(path)
        save_file({name: value * 2 for name, value in tensors.items()}, path)

    found = attacked(quick(), tmp_path, DLG, change)
    assert isinstance(found[client_name(2)], Unattacked)
    assert "not those that were written" in found[client_name(2)].reason
    assert found[client_name(0)].outcome.failure is found[client_name(1)].outcome.failure is None


def test_ctrl_c_while_the_queue_attacks_loses_no_update(quick, monkeypatch):
    changes = {"rounds": 1, "clients": 2, "adversary__workers": 1}
    settings = quick(**changes)
    whole = quick(**changes, out=settings.out + "-whole")
    with monkeypatch.context() as in_line:
        in_line.setattr("fl_sim.server_app.in_ray_cluster", lambda: False)
        run_in_process(whole)
    RunFolder.open(Path(whole.out)).sort()
    real = RayQueue.results

    def pressing(self, timeout=0.0):
        if timeout:  # training is over, attacks are awaited
            os.kill(os.getpid(), signal.SIGINT)
        yield from real(self, timeout)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(RayQueue, "results", pressing)
        with pytest.raises(KeyboardInterrupt):
            run_in_process(settings)
    signal.signal(signal.SIGINT, before)
    folder = RunFolder.open(Path(settings.out))
    assert folder.info()["status"] == "stopped"
    waiting = {update.stem for update in folder.recorded_updates()}
    written = set(folder.leakage()["client"])
    assert waiting | written == {client_name(0), client_name(1)}
    run_in_process(dataclasses.replace(settings, resume=True))
    assert table(folder) == table(RunFolder.open(Path(whole.out)))
    assert folder.info()["status"] == "completed"
    assert folder.recorded_updates() == []


def table(folder):
    return folder.leakage().drop(columns=["seconds", "lpips"]).to_csv(index=False)
