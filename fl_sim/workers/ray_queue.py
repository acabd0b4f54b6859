"""Attacks in processes of Ray, beside the training, on whatever machines the cluster has."""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from adversary.attacks.adversary import Adversary
from adversary.common.errors import one_line_error
from adversary.common.types import StateDict
from adversary.observation.observation import Observation, ObservationError, UpdateKey
from adversary.scoring.scorer import Scored, Scorer
from adversary.storage.names import round_of
from adversary.storage.run_folder import RunFolder, RunFolderError
from fl_sim.workers.attack_task import MAX_PARALLEL_ATTACKS, attack_and_score, failed
from strategies.attack_queue import Attacked, AttackQueue, Threat, Unattacked

Packed = dict[str, NDArray[Any]]
"""A state dict on its way to another process."""

MAX_HELD_BYTES = 256 * 2**20
"""Bytes of waiting updates that stay in memory too, so that they need not be read again."""

RETRIES = 1
"""How often an attack is begun again whose process died."""

NICENESS = 10
"""Of attacks on CPUs, added to that of Ray's processes: Linux gives ten more a tenth of the time.

Ray gives 15 to all its processes, clients' as well, unless ``RAY_worker_niceness`` says otherwise;
attacks then have 19, which is the most, and two fifths of the time of a client.
"""


class RayQueue(AttackQueue):
    """Attacks updates in processes of Ray; what waits lies in the run's folder.

    Updates are written in a thread beside the server, which has a round to end; :meth:`settle`
    waits for it. No more than :data:`MAX_HELD_BYTES` bytes of them wait in memory as well.

    An update is one task, with all its attacks and their scores. Which attack is run where, and
    in which order they end, changes nothing in what they find.

    Parameters
    ----------
    adversary : Adversary
        Runs the attacks; it is sent to the workers once.
    scorer : Scorer
        Scores them there.
    threat : callable
        What the attacker is granted beyond an observation.
    folder : RunFolder
        Where updates wait.
    keep : bool
        Whether they stay there when they are attacked.
    workers : int
        Attacks at once, >= 1; 0 is one for each that the cluster has CPUs (or GPUs) for, at most
        :data:`~fl_sim.workers.attack_task.MAX_PARALLEL_ATTACKS`.
    cpus : int
        Threads of an attack. None are reserved of Ray: Flower's clients hold all that there are,
        and what seems free while they start is waited for in vain.
    gpus : float
        Of an attack; a share lets several use one.
    limit : int
        Updates that may wait before the training does, >= 1.
    """

    beside = True

    def __init__(
        self,
        adversary: Adversary,
        scorer: Scorer,
        threat: Threat,
        folder: RunFolder,
        *,
        keep: bool,
        workers: int = 0,
        cpus: int = 1,
        gpus: float = 0.0,
        limit: int = 64,
    ) -> None:
        import ray

        self._ray = ray
        self.folder = folder
        self.keep = keep
        self.limit = limit
        self.attacks = adversary.names
        self.workers = workers or _free_slots(ray.cluster_resources(), cpus, gpus)
        # Actors: Ray ends the idle processes of plain tasks, and torch takes seconds to load.
        worker: Any = ray.remote(_Worker)
        options = {
            "num_cpus": 0,
            "memory": 1,  # a byte: where an actor that needs nothing begins is left to chance
            "num_gpus": gpus,
            "max_restarts": -1,
            "max_task_retries": RETRIES,
        }
        places = _worker_placements(ray.nodes(), gpus)
        parts = ray.put((adversary, scorer, threat))
        self._new_worker = lambda: worker.options(
            **options, scheduling_strategy=next(places)
        ).remote(parts)
        self._free = deque(self._new_worker() for _ in range(self.workers))
        self._waiting: deque[_Update] = deque()
        self._running: dict[Any, _Update] = {}
        self._writer = ThreadPoolExecutor(1, "updates")
        self._sent: tuple[StateDict, Any] | None = None

    def submit(self, observation: Observation) -> None:
        """Take an update to attack, and write it to the run's folder."""
        path = self.folder.recorded_update(observation.round, observation.client)
        written = self._writer.submit(self.folder.record, observation)
        update = _Update(path, observation.round, observation.client, self.attacks, written)
        held = sum(_size(one.held) for one in self._waiting if one.held is not None)
        at_once = self._free and not self._waiting
        if at_once or held + _size(observation) <= MAX_HELD_BYTES:
            update = update._replace(held=observation)
        self._waiting.append(update)
        self._start()

    def resubmit(self, path: Path, attacks: tuple[str, ...]) -> None:
        """Take an update that lies in the folder already, for these attacks."""
        self._waiting.append(_Update(path, round_of(path), path.stem, attacks))
        self._start()

    def flush(self) -> None:
        """Return when all updates that were put are in the folder, or cannot be written."""
        wait([u.written for u in (*self._waiting, *self._running.values()) if u.written])

    def results(self, timeout: float = 0.0) -> Iterator[Attacked | Unattacked]:
        """Yield newly finished results, waiting at most ``timeout`` seconds."""
        self._start()
        while self._running:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
            if not ready:
                return
            timeout = 0.0
            update = self._running.pop(ready[0])
            found = self._result(update, ready[0])
            self._start()  # before the results are written
            yield from self._entries(update, found)

    @property
    def pending(self) -> int:
        """How many updates were taken and are not done."""
        return len(self._waiting) + len(self._running)

    @property
    def full(self) -> bool:
        """Whether no more should be put before some are done."""
        return len(self._waiting) >= self.limit

    def _start(self) -> None:
        """Give every free worker an update."""
        while self._waiting and self._free:
            update = self._waiting.popleft()
            try:
                observation = update.held or _read(update)
            except (ObservationError, RunFolderError) as error:
                self._running[self._ray.put(one_line_error(error))] = update
            else:
                self._begin(update._replace(held=None), observation)

    def _begin(self, update: _Update, observation: Observation) -> None:
        """Give an update to a worker that is free."""
        if self._sent is None or self._sent[0] is not observation.sent:
            self._sent = observation.sent, self._ray.put(_as_numpy(observation.sent))
        about = dataclasses.replace(observation, sent={}, returned={})
        arguments = self._sent[1], _as_numpy(observation.returned), about, update.attacks
        worker = self._free.popleft()
        self._running[worker.attack_and_score.remote(*arguments)] = update._replace(worker=worker)

    def _result(self, update: _Update, task: Any) -> list[Scored] | str:
        """Return what came of an update, and let its worker have another."""
        try:
            found: list[Scored] | str = self._ray.get(task)
        except Exception as error:  # its process died, again
            reason = f"the attack's process ended: {type(error).__name__}"
            # Ray may hold the actor for dead: another takes its place.
            with suppress(Exception):
                self._ray.kill(update.worker)
            self._free.append(self._new_worker())
            return [failed(attack, reason) for attack in update.attacks]
        if update.worker is not None:
            self._free.append(update.worker)
        if update.written is not None and (unwritten := update.written.exception()) is not None:
            return one_line_error(unwritten)
        return found

    def _entries(
        self, update: _Update, found: list[Scored] | str
    ) -> Iterator[Attacked | Unattacked]:
        if isinstance(found, str):
            yield Unattacked(update.round, update.client, found)
        else:
            for one in found:
                yield Attacked(UpdateKey(update.round, update.client), one)
        if not self.keep:
            self.folder.forget_update(update.path)


class _Update(NamedTuple):
    path: Path
    round: int
    client: str
    attacks: tuple[str, ...]
    written: Future[None] | None = None
    held: Observation | None = None
    worker: Any = None


def _size(observation: Observation) -> int:
    """Return the bytes of what came back; what was sent is shared by all of a round."""
    return sum(value.nbytes for value in observation.returned.values())


def _read(update: _Update) -> Observation:
    """Return an update from the run's folder, as soon as it is written there."""
    if update.written is not None:
        update.written.result()
    return Observation.load(update.path)


def in_ray_cluster() -> bool:
    """Return whether this process has joined a Ray cluster, as Flower's simulation does."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _worker_placements(nodes: list[dict[str, Any]], gpus: float) -> Iterator[Any]:
    """Yield a scheduling strategy for each worker: by GPU, or over the nodes in turn."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if gpus:
        return itertools.repeat("SPREAD")
    able = [node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("CPU")]
    return itertools.cycle([NodeAffinitySchedulingStrategy(node, soft=True) for node in able])


def _free_slots(resources: dict[str, float], cpus: int, gpus: float) -> int:
    """Return how many attacks the cluster can run at once."""
    room = resources.get("CPU", 1) / cpus
    if gpus:
        room = min(room, resources.get("GPU", 0) / gpus)
    return max(1, min(int(room), MAX_PARALLEL_ATTACKS))


class _Worker:
    """A process that attacks; what it learns of the public X-rays stays with it."""

    def __init__(self, parts: tuple[Adversary, Scorer, Threat]) -> None:
        if parts[0].device.type == "cpu":  # a GPU should not wait to be told what to do
            _yield_to_training()
        self.parts = parts

    def attack_and_score(
        self, sent: Packed, returned: Packed, about: Observation, attacks: tuple[str, ...]
    ) -> list[Scored] | str:
        """Attack an update, and score what comes of it."""
        whole = dataclasses.replace(about, sent=_as_tensors(sent), returned=_as_tensors(returned))
        return attack_and_score(*self.parts, whole, attacks)


def _yield_to_training() -> None:
    """Lower the priority of this thread, and of what it starts, by :data:`NICENESS`.

    Clients and the server come first: whoever waits for a round should not wait for an attack. At
    idle priority (``SCHED_IDLE``, a share of 3 beside 1024) attacks would starve where anything
    else keeps the processors busy, and with them the run, which waits for the last of them.
    """
    with suppress(AttributeError, OSError):  # not on Windows, and a system may forbid it
        os.nice(NICENESS)


def _as_numpy(state: StateDict) -> Packed:
    """Return arrays, which Ray shares between processes where it would pickle tensors."""
    return {name: value.numpy() for name, value in state.items()}


def _as_tensors(arrays: Packed) -> StateDict:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
