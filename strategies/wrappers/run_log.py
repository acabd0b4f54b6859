"""Write down what becomes of each round."""

from __future__ import annotations

import inspect
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from logging import WARNING
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log

from adversary.common.errors import one_line_error
from adversary.common.torch_state import preserved_rng_state
from strategies.messages import LEARNING_RATE
from strategies.replies import AUC, HELD_OUT_AUC, HELD_OUT_LOSS, LEFT_OUT, NUM_EXAMPLES
from strategies.wrappers.base import StrategyWrapper
from strategies.wrappers.redirection import redirected
from strategies.wrappers.round_offset import RoundOffset

if TYPE_CHECKING:
    from adversary.report.ledger import Ledger

T = TypeVar("T")
EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]
Spent = Callable[[str, int], Mapping[str, Any] | None]
GoesOn = Callable[[int, ArrayRecord, Mapping[str, float | None]], bool]


class _StoppedEarlyError(Exception):
    """Ends Flower's loop over the rounds, which knows no other way."""

    def __init__(self, arrays: ArrayRecord) -> None:
        super().__init__("training is over")
        self.arrays = arrays


def nothing_accounted(client: str, rounds: int) -> None:
    """Account for nothing."""


def always(server_round: int, arrays: ArrayRecord, row: Mapping[str, float | None]) -> bool:
    """Go on after every round."""
    return True


class RunLog(StrategyWrapper):
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
    goes_on : callable, optional
        Called with a round, its global arrays and its row in the ledger when all of it is
        written; returns whether another round follows, if there is one. After an early stop
        :meth:`start` returns the last arrays without the metrics of the rounds.
    """

    ledger: Ledger | None
    spent: Spent
    goes_on: GoesOn
    num_rounds: int | None
    _round_began: float
    _open: int | None
    _clients: int
    _clients_failed: int
    _told: MetricRecord | None
    _client_auc: float | None
    _done: int
    _took_part: Counter[str]
    _now_took_part: list[str]

    def __init__(
        self,
        strategy: Strategy,
        *,
        ledger: Ledger | None = None,
        client_names: Mapping[int, str] | None = None,
        spent: Spent = nothing_accounted,
        goes_on: GoesOn = always,
    ) -> None:
        super().__init__(strategy, client_names=client_names)
        self.ledger = ledger
        self.spent = spent
        self.goes_on = goes_on
        self.num_rounds = None
        self._round_began = time.monotonic()
        self._open = None  # the round that began and is not written yet
        self._clients = self._clients_failed = 0
        self._told = None
        self._client_auc = None
        self._done = 0
        self._took_part = Counter()
        self._now_took_part = []

    def resume(self, done: int, took_part: Mapping[str, int]) -> None:
        """Let :meth:`start` begin after ``done`` rounds of an earlier run of the same federation.

        Parameters
        ----------
        done : int
            Rounds that are done, of the number that :meth:`start` is given.
        took_part : mapping of str to int
            In how many of them each client took part; see :attr:`took_part`.
        """
        self._done = done
        self._took_part = Counter(took_part)

    @property
    def took_part(self) -> dict[str, int]:
        """In how many rounds each client took part so far, by name."""
        return dict(self._took_part)

    def start(self, *args: Any, **kwargs: Any) -> Result:
        """Run all rounds by the wrapped strategy's own ``start``, and close the ledger.

        It takes what that method takes, which is mostly what :meth:`Strategy.start` does.
        """
        call = inspect.signature(self.wrapped.start).bind(*args, **kwargs)
        call.apply_defaults()
        self._prepare(call.arguments)
        try:
            try:
                with redirected(self.strategy, RoundOffset(self, self._done)):
                    result = self.strategy.start(*call.args, **call.kwargs)
                self._close_round(result.arrays)
            except _StoppedEarlyError as end:
                result = Result(arrays=end.arrays)
            self._end_of_training()
        except KeyboardInterrupt:
            self._enter(lambda ledger: ledger.close("stopped"))
            raise
        except Exception as error:
            reason = one_line_error(error)
            self._enter(lambda ledger: ledger.close("failed", reason))
            raise
        self._enter(_close)
        return result

    def _prepare(self, arguments: dict[str, Any]) -> None:
        """Count rounds from those that are done, and see the server's evaluation of each."""
        self._open = None
        rounds = arguments.get("num_rounds")
        self.num_rounds = rounds if isinstance(rounds, int) else None
        if self.num_rounds is not None:
            arguments["num_rounds"] = self.num_rounds - self._done
        if arguments.get("evaluate_fn") is not None:
            arguments["evaluate_fn"] = self._watching(arguments["evaluate_fn"])

    def _watching(self, evaluate_fn: EvaluateFn) -> EvaluateFn:
        """Return what evaluates as before; it is the last thing that happens in a round."""

        def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if server_round == 0:
                return None if self._done else evaluate_fn(0, arrays)
            metrics = evaluate_fn(self._done + server_round, arrays)
            self._close_round(arrays, metrics)
            return metrics

        return evaluate

    def _close_round(self, arrays: ArrayRecord | None, metrics: MetricRecord | None = None) -> None:
        """Write the round that is going on, if any, and ask whether another follows."""
        if self._open is None:
            return
        server_round, self._open = self._open, None
        row = self._round_done(server_round, metrics)
        arrays = ArrayRecord() if arrays is None else arrays
        if not self.goes_on(server_round, arrays, row):
            raise _StoppedEarlyError(arrays)

    def _end_of_training(self) -> None:
        """Do what is left before the ledger is closed."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        self._close_round(arrays)  # where the server evaluates nothing
        self._open = server_round
        self._round_began = time.monotonic()
        self._told = self._client_auc = None
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
        replies = list(replies)
        self._client_auc = self._evaluated(server_round, replies)
        self._told = super().aggregate_evaluate(server_round, replies)
        return self._told

    def _evaluated(self, server_round: int, replies: list[Message]) -> float | None:
        """Write how the model does with each client; return the mean of their AUCs.

        Weighted by images, over the clients that have an AUC.
        """
        known: list[tuple[float, float]] = []
        rows: list[dict[str, Any]] = []
        for reply in sorted(replies, key=lambda r: self.name_of(r.metadata.src_node_id)):
            if reply.has_error() or len(reply.content.metric_records) != 1:
                continue
            [metrics] = reply.content.metric_records.values()
            images = _number(metrics, NUM_EXAMPLES, self.weight_key) or 0
            if _number(metrics, "loss", "eval_loss") is None:
                continue  # it keeps its figures to itself
            auc = _number(metrics, AUC) if images else None
            row = {
                "client": self.name_of(reply.metadata.src_node_id),
                "images": int(images),
                "loss": _number(metrics, "loss", "eval_loss") if images else None,
                "accuracy": _number(metrics, "accuracy") if images else None,
                "auc": auc,
                "auc_left_out": _number(metrics, LEFT_OUT) if images else None,
            }
            if auc is not None and math.isfinite(auc):
                known.append((auc, images))
            rows.append(row)
        if rows:
            self._enter(lambda ledger: ledger.record_evaluation(server_round, rows))
        total = sum(images for _, images in known)
        return sum(auc * images for auc, images in known) / total if total else None

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
        self._enter(
            lambda ledger: ledger.record_privacy(server_round, client, rounds=rounds, **account)
        )

    def _round_done(
        self, server_round: int, metrics: MetricRecord | None
    ) -> Mapping[str, float | None]:
        """Write the round; where the server cannot evaluate, with the clients' mean."""
        try:
            privacy = self._privacy(server_round)
        except Exception as error:
            log(WARNING, "round %d: no privacy account: %s", server_round, one_line_error(error))
            privacy = {}
        if metrics is None:
            loss, auc = _number(self._told, HELD_OUT_LOSS), _number(self._told, HELD_OUT_AUC)
        else:
            loss, auc = _number(metrics, "loss"), _number(metrics, "auc")
        row = {
            "loss": loss,
            "auc": auc,
            "auc_left_out": _number(metrics, LEFT_OUT),
            "lr": _number(self.sent_config, LEARNING_RATE),
            "client_loss": _number(self._told, "loss", "eval_loss"),
            "client_auc": self._client_auc,
            "clients": self._clients,
            "clients_failed": self._clients_failed,
            "seconds": time.monotonic() - self._round_began,
            **privacy,
        }
        self._enter(lambda ledger: ledger.round_done(server_round, **row))
        return row

    def _unusable(self, server_round: int, client: str, reason: str) -> None:
        self._enter(lambda ledger: ledger.record_fault(server_round, client, reason))

    def _enter(self, entry: Callable[[Ledger], T]) -> T | None:
        """Write to the ledger; whatever happens there, training does not notice."""
        if self.ledger is None:
            return None
        try:
            with preserved_rng_state():
                return entry(self.ledger)
        except Exception as error:
            log(WARNING, "the run's ledger could not be written: %s", one_line_error(error))
        return None


def _close(ledger: Ledger) -> None:
    """Close the ledger of a run whose training came to its end."""
    if ledger.errors:
        ledger.close("failed", f"the report is not complete: {ledger.errors[0]}")
    else:
        ledger.close("completed")


def _number(metrics: MetricRecord | ConfigRecord | None, *names: str) -> float | None:
    """Return the first of these entries that is there and is one number."""
    for name in names:
        value = metrics.get(name) if metrics is not None else None
        if isinstance(value, int | float):
            return float(value)
    return None
