"""A server that follows the protocol, and looks at what it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from logging import INFO, WARNING
from typing import TYPE_CHECKING

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from adversary.attacks.adversary import Adversary
from adversary.common.errors import one_line_error
from adversary.common.torch_state import preserved_rng_state
from adversary.common.types import StateDict
from adversary.observation.mechanisms import received
from adversary.observation.observation import Observation
from adversary.observation.recipe import TrainingRecipe
from strategies.attack_queue import Attacked, AttackQueue, InlineQueue, Threat, no_oracles
from strategies.messages import recipe_from_config
from strategies.replies import decoded, num_examples
from strategies.time_left import TimeLeft, Work
from strategies.wrappers.run_log import GoesOn, RunLog, Spent, always, nothing_accounted

if TYPE_CHECKING:
    from adversary.report.ledger import Ledger

REPORT_SECONDS = 10.0
"""Seconds between lines about an attack that is still running."""

ALL_CLIENTS = "-"
"""Stands for the client where none of a round could be attacked."""


def _everyone(server_round: int, clients: Sequence[str]) -> Sequence[str]:
    return clients


def _log(line: str) -> None:
    log(INFO, "%s", line)


class HonestButCurious(RunLog):
    """Wraps any strategy and attacks every client's update; training does not change by it.

    The wrapped strategy gets each round's replies exactly as they came. What they hold is copied
    first, attacked when the wrapped strategy is done, and written to the ledger. No error of an
    attack, or of the ledger, leaves this class, and the global random states stay as they were:
    arrays and metrics are bit for bit those of the wrapped strategy alone.

    The arrays in the messages must be named as in ``adversary.model.state_dict()``, and replies
    must tell ``num-examples``, as Flower's own strategies want it.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work. A wrapper with differential privacy belongs inside
        (``HonestButCurious(DP(FedAvg))``) to attack what clients really sent.
    adversary : Adversary
        Runs the attacks.
    recipe : TrainingRecipe
        The local training that the server prescribes to its clients. Where it sends ``lr`` or
        ``proximal-mu`` with the model, as the config of a round, these take precedence.
    ledger : Ledger, optional
        Writes results and report; without one the only trace is the log.
    threat : callable, optional
        What the attacker is granted beyond an observation; nothing by default.
    queue : AttackQueue, optional
        Where updates are attacked; by default in line, after each round. Another one runs the
        same attacks with the same threat models beside the training; what it has done is written
        whenever the server comes by, and the end of the run waits for the rest.
    select : callable, optional
        From a round and the names of the clients that train in it to those whose updates are
        kept and attacked; all by default. How many it names may depend on the round and on how
        many there are, and on nothing else, so that the time left can be told.
    client_names : mapping of int to str, optional
        Names by node id; client-00, client-01, ... by default.
    spent : callable, optional
        A client's privacy account, as :class:`RunLog` wants it.
    goes_on : callable, optional
        Whether another round follows, as :class:`RunLog` wants it.
    tell : callable, optional
        Called with each line of progress; Flower's log by default.

    Examples
    --------
    >>> strategy = HonestButCurious(
    ...     FedAvg(),
    ...     Adversary(Net(), image_shape=(1, 28, 28), attacks=[DLG()]),
    ...     TrainingRecipe(lr=0.1, batch_size=1),
    ...     ledger=Ledger(RunFolder.create(Path("results/mine"))),
    ... )  # doctest: +SKIP
    """

    adversary: Adversary
    recipe: TrainingRecipe
    queue: AttackQueue
    select: Callable[[int, Sequence[str]], Sequence[str]]
    _tell: Callable[[str], None]
    _last_line: float
    _countdown: TimeLeft
    _decoded: tuple[ArrayRecord, StateDict, StateDict] | None

    def __init__(
        self,
        strategy: Strategy,
        adversary: Adversary,
        recipe: TrainingRecipe,
        *,
        ledger: Ledger | None = None,
        threat: Threat = no_oracles,
        queue: AttackQueue | None = None,
        select: Callable[[int, Sequence[str]], Sequence[str]] = _everyone,
        client_names: Mapping[int, str] | None = None,
        spent: Spent = nothing_accounted,
        goes_on: GoesOn = always,
        tell: Callable[[str], None] = _log,
    ) -> None:
        super().__init__(
            strategy, ledger=ledger, client_names=client_names, spent=spent, goes_on=goes_on
        )
        self.adversary = adversary
        self.recipe = recipe
        self.queue = queue or InlineQueue(adversary, threat, self._running)
        self.select = select
        self._tell = tell
        self._last_line = time.monotonic()
        self._countdown = TimeLeft()
        self._decoded = None

    def expect_waiting(self, work: Iterable[Work]) -> None:
        """Count attacks that wait in the queue since an earlier run: whose update, and which."""
        self._countdown.begin()
        self._countdown.expect(work)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        self._countdown.begin()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the results of training, and attack them."""
        replies = list(replies)
        # Copied before, because strategies may change replies in place; attacked after, because
        # the wrapped strategy may find that the run cannot go on.
        observations = self._observe(server_round, replies)
        result = super().aggregate_train(server_round, replies)
        self._expect(server_round, [one.client for one in observations])
        for observation in observations:
            self._put(observation)
        if not self.queue.beside:
            self.drain()
        return result

    def drain(self, timeout: float = 0.0) -> None:
        """Write what the queue has done; wait for some of it at most ``timeout`` seconds."""
        if not self.queue.pending:  # called many times a second while clients train
            return
        with preserved_rng_state():
            for one in self.queue.results(timeout):
                self._last_line = time.monotonic()
                if isinstance(one, Attacked):
                    self._finished(one)
                else:
                    self._give_up(one.round, one.client, one.reason)

    def _end_of_training(self) -> None:
        """Wait for the attacks that are left."""
        while self.queue.pending:
            self.drain(REPORT_SECONDS)
            if self.queue.pending and time.monotonic() - self._last_line >= REPORT_SECONDS:
                self._last_line = time.monotonic()
                parts = f"{self.queue.pending} updates left to attack", self._countdown.left()
                self._tell(" · ".join(part for part in parts if part))

    def _observe(self, server_round: int, replies: list[Message]) -> list[Observation]:
        """Return what the usable replies of those attacked show, by the clients' names."""
        try:
            attacked = self._attacked(server_round)
        except Exception as error:
            self._give_up(server_round, ALL_CLIENTS, error)
            return []
        observations = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if self.name_of(node) not in attacked:
                continue
            try:
                if (observation := self._observation(server_round, reply)) is not None:
                    observations.append(observation)
            except Exception as error:
                self._give_up(server_round, self.name_of(node), error)
        return sorted(observations, key=lambda o: o.client)

    def _attacked(self, server_round: int) -> frozenset[str]:
        """Return the names of the clients to attack, if those train that train now."""
        with preserved_rng_state():
            return frozenset(self.select(server_round, sorted(map(self.name_of, self._sent))))

    def _shown(self, server_round: int) -> Iterable[str]:
        """Return whose updates a round to come will show, if every client answers."""
        return self._attacked(server_round)

    def _observation(self, server_round: int, reply: Message) -> Observation | None:
        """Return what a reply shows; None where it cannot be used."""
        node = reply.metadata.src_node_id
        if (arrays := decoded(reply, self.sent_to(node), self.weight_key)) is None:
            return None
        returned = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Observation(
            round=server_round,
            client=self.name_of(node),
            sent=self._loaded(self.sent_to(node), returned),
            returned=returned,
            num_examples=num_examples(reply.content, self.weight_key),
            recipe=recipe_from_config(self.recipe, self.sent_config),
        )

    def _loaded(self, record: ArrayRecord, returned: StateDict) -> StateDict:
        """Return what a client was sent in the types that it answers in.

        Most strategies send all clients the same; it is decoded once.
        """
        if self._decoded is None or self._decoded[0] is not record:
            tensors = _tensors(record)
            self._decoded = record, tensors, received(tensors, returned)
        _, tensors, loaded = self._decoded
        alike = all(loaded[n].dtype == v.dtype for n, v in returned.items() if n in loaded)
        return loaded if alike else received(tensors, returned)

    def _expect(self, server_round: int, clients: Sequence[str]) -> None:
        """Tell the countdown what is to come, if every client answers in the rounds to come."""
        attacks = self.adversary.names
        later: list[str] | None = None
        if self.num_rounds is not None:
            rounds = range(server_round + 1, self.num_rounds + 1)
            try:
                later = [client for number in rounds for client in self._shown(number)]
            except Exception:  # told when its round comes
                later = []
        self._countdown.expect(
            product(clients, attacks), None if later is None else product(later, attacks)
        )

    def _put(self, observation: Observation) -> None:
        self._enter(lambda ledger: ledger.record_observation(observation))
        if self.queue.full:
            self._tell(f"training waits: {self.queue.pending} updates are left to attack")
        while self.queue.full:
            self.drain(REPORT_SECONDS)
        try:
            with preserved_rng_state():
                self.queue.submit(observation)
        except Exception as error:
            self._give_up(observation.round, observation.client, error)

    def _give_up(self, server_round: int, client: str, error: Exception | str) -> None:
        """Say why a client's update could not be attacked; the federation goes on."""
        why = error if isinstance(error, str) else one_line_error(error)
        reason = f"not attacked: {why}"
        log(WARNING, "%s in round %d: %s", client, server_round, reason)
        self._countdown.drop(client, self.adversary.names)
        self._unusable(server_round, client, reason)

    def _finished(self, attacked: Attacked) -> None:
        update, result = attacked.update, attacked.result
        verdict = self._enter(lambda ledger: ledger.record_result(update, result))
        whose = attacked.round, attacked.client
        self._tell(self._countdown.finished(*whose, attacked.outcome, verdict))

    def _running(self, observation: Observation, attack: str, share: float) -> None:
        """Tell of a long attack every few seconds."""
        if time.monotonic() - self._last_line >= REPORT_SECONDS:
            self._last_line = time.monotonic()
            whose = observation.round, observation.client
            self._tell(self._countdown.line(*whose, attack, f"{share:.0%}"))


def _tensors(arrays: ArrayRecord) -> StateDict:
    """Return the arrays as tensors of their own; nothing is shared with the message."""
    return dict(arrays.to_torch_state_dict())
