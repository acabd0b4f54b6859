"""Write down what becomes of each round."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from logging import WARNING
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log

from adversary.adversary import in_one_line, random_state_kept
from strategies.replies import HELD_OUT_AUC, HELD_OUT_LOSS
from strategies.wrapper import Wrapper

if TYPE_CHECKING:
    from adversary.report.ledger import Ledger

T = TypeVar("T")
EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
Spent = Callable[[str, int], Mapping[str, Any] | None]


def nothing_accounted(client: str, rounds: int) -> None:
    """Account for nothing."""


class Bookkeeping(Wrapper):
    """Writes a ledger's row for every round, and how the run ended; it changes nothing.

    Parameters
    ----------
    strategy : Strategy
        The strategy that does the work.
    ledger : Ledger, optional
        Where to write.
    client_names : mapping of int to str, optional
        Names by node id.
    spent : callable, optional
        From a client's name and the number of rounds in which it took part, what privacy it has
        spent: ``epsilon``, ``delta`` and what else the ledger's accounts hold; None where nothing
        bounds that.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        ledger: Ledger | None = None,
        client_names: Mapping[int, str] | None = None,
        spent: Spent = nothing_accounted,
    ) -> None:
        super().__init__(strategy, client_names=client_names)
        self.ledger = ledger
        self.spent = spent
        self.num_rounds: int | None = None
        self._round_began = time.monotonic()
        self._clients = self._clients_failed = 0
        self._told: MetricRecord | None = None
        self._took_part: Counter[str] = Counter()
        self._now_took_part: list[str] = []

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> Result:
        """Run all rounds as :meth:`Strategy.start` does, and close the ledger at the end."""
        self.num_rounds = num_rounds

        # The central evaluation is the last thing that happens in a round.
        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            metrics = evaluate_fn(server_round, arrays) if evaluate_fn else None
            if server_round > 0:
                self._round_done(server_round, metrics)
            return metrics

        try:
            result = super().start(
                grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate
            )
        except KeyboardInterrupt:
            self._enter(lambda ledger: ledger.close("stopped"))
            raise
        except Exception as error:
            reason = in_one_line(error)
            self._enter(lambda ledger: ledger.close("failed", reason))
            raise
        self._enter(_close)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        self._round_began = time.monotonic()
        self._told = None
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the results of training, and count which clients failed."""
        replies = list(replies)
        self._count_rounds(replies)
        faults = self._silent(replies) | self.faults(replies)
        for node, reason in sorted(faults.items(), key=lambda item: self.name_of(item[0])):
            self._unusable(server_round, self.name_of(node), reason)
        self._clients, self._clients_failed = len(self._sent), len(faults)
        return super().aggregate_train(server_round, replies)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the results of evaluation, and keep what the clients told."""
        self._told = super().aggregate_evaluate(server_round, replies)
        return self._told

    def _silent(self, replies: list[Message]) -> dict[int, str]:
        """Return the clients that were sent a model and did not answer at all."""
        answered = {reply.metadata.src_node_id for reply in replies}
        return {node: "did not answer" for node in self._sent if node not in answered}

    def _count_rounds(self, replies: list[Message]) -> None:
        """Count who took part: whoever was sent a model, but for those that tell of an error.

        An update that came too late, or that is left out of the model, has been seen.
        """
        raised = {reply.metadata.src_node_id for reply in replies if reply.has_error()}
        self._now_took_part = sorted(self.name_of(node) for node in self._sent.keys() - raised)
        self._took_part.update(self._now_took_part)

    def _privacy(self, server_round: int) -> dict[str, float]:
        """Write the accounts of the clients of a round; return what holds for all clients so far.

        Empty where any of them has no account.
        """
        accounts = {name: self.spent(name, rounds) for name, rounds in self._took_part.items()}
        known = {name: account for name, account in accounts.items() if account is not None}
        for name in self._now_took_part:
            if name in known:
                self._account(server_round, name, known[name])
        if not known or len(known) < len(accounts):
            return {}
        return {key: max(one[key] for one in known.values()) for key in ("epsilon", "delta")}

    def _account(self, server_round: int, client: str, account: Mapping[str, Any]) -> None:
        rounds = self._took_part[client]
        self._enter(lambda ledger: ledger.spent(server_round, client, rounds=rounds, **account))

    def _round_done(self, server_round: int, metrics: MetricRecord | None) -> None:
        """Write the round; where the server cannot evaluate, with the clients' mean."""
        try:
            privacy = self._privacy(server_round)
        except Exception as error:
            log(WARNING, "round %d: no privacy account: %s", server_round, in_one_line(error))
            privacy = {}
        if metrics is None:
            loss, auc = _number(self._told, HELD_OUT_LOSS), _number(self._told, HELD_OUT_AUC)
        else:
            loss, auc = _number(metrics, "loss"), _number(metrics, "auc")
        self._enter(
            lambda ledger: ledger.round_done(
                server_round,
                loss=loss,
                auc=auc,
                client_loss=_number(self._told, "loss", "eval_loss"),
                clients=self._clients,
                clients_failed=self._clients_failed,
                seconds=time.monotonic() - self._round_began,
                **privacy,
            )
        )

    def _unusable(self, server_round: int, client: str, reason: str) -> None:
        self._enter(lambda ledger: ledger.unusable(server_round, client, reason))

    def _enter(self, entry: Callable[[Ledger], T]) -> T | None:
        """Write to the ledger; whatever happens there, training does not notice."""
        if self.ledger is None:
            return None
        try:
            with random_state_kept():
                return entry(self.ledger)
        except Exception as error:
            log(WARNING, "the run's ledger could not be written: %s", in_one_line(error))
        return None


def _close(ledger: Ledger) -> None:
    """Close the ledger of a run whose training came to its end."""
    if ledger.errors:
        ledger.close("failed", f"the report is not complete: {ledger.errors[0]}")
    else:
        ledger.close("completed")


def _number(metrics: MetricRecord | None, *names: str) -> float | None:
    """Return the first of these metrics that is there and is one number."""
    for name in names:
        value = metrics.get(name) if metrics is not None else None
        if isinstance(value, int | float):
            return float(value)
    return None
