"""Exclude invalid replies from aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import WARNING

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore import log

from adversary.common.errors import UserError
from strategies.replies import arrays_of, inconsistent_replies
from strategies.wrappers.base import StrategyWrapper


class NoUsableReplyError(UserError, RuntimeError):
    """No client returned an update that can be aggregated; one line that names the round."""


class ReplyValidation(StrategyWrapper):
    """Drops train replies that cannot be averaged, and ends the run when none is left.

    Flower averages NaN silently, and calls a run completed in which every client failed. Here a
    reply with NaN or infinite values, with an array of another shape, or without an array or
    ``num-examples``, is dropped with one line that names the client and the array; so is one whose
    records or metrics are not those of most clients, in training and in evaluation. A reply that
    tells of an error is passed on, as the wrapped strategy may have a rule for it.

    Raises
    ------
    NoUsableReplyError
        From :meth:`aggregate_train`.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate those results that can be used."""
        replies = list(replies)
        faults = self.faults(replies)
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in faults and (reason := self._incomplete(reply)):
                faults[node] = reason
        faults |= inconsistent_replies(
            _contents(r for r in replies if r.metadata.src_node_id not in faults)
        )
        if len(faults) == len(replies):
            raise NoUsableReplyError(
                f"round {server_round}: none of {len(self._sent)} clients returned a usable "
                f"update: {self._together(faults) or 'no reply came'}"
            )
        for node, reason in faults.items():
            name = self.name_of(node)
            log(WARNING, "round %d: %s %s; left out of the model", server_round, name, reason)
        usable = [r for r in replies if r.has_error() or r.metadata.src_node_id not in faults]
        return self.strategy.aggregate_train(server_round, usable)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate those results of evaluation that are alike."""
        replies = list(replies)
        odd = inconsistent_replies(_contents(replies))
        for node, reason in odd.items():
            name = self.name_of(node)
            log(WARNING, "round %d: %s %s; left out of the evaluation", server_round, name, reason)
        alike = [r for r in replies if r.metadata.src_node_id not in odd]
        return self.strategy.aggregate_evaluate(server_round, alike)

    def _together(self, faults: Mapping[int, str]) -> str:
        """Return all faults, each with the clients that have it: often they are the same."""
        clients: dict[str, list[str]] = {}
        for name, reason in sorted((self.name_of(node), why) for node, why in faults.items()):
            clients.setdefault(reason, []).append(name)
        return "; ".join(f"{', '.join(names)} {reason}" for reason, names in clients.items())

    def _incomplete(self, reply: Message) -> str | None:
        """Return which array a reply lacks or has too many; Flower can average neither."""
        sent = self.sent_to(reply.metadata.src_node_id).keys()
        returned = arrays_of(reply.content).keys()
        if lacking := sorted(sent - returned):
            return f"returned no array {lacking[0]}"
        if unknown := sorted(returned - sent):
            return f"returned an array that was not sent, {unknown[0]}"
        return None


def _contents(replies: Iterable[Message]) -> dict[int, RecordDict]:
    """Return what replies hold, by node; those that tell of an error hold nothing."""
    return {r.metadata.src_node_id: r.content for r in replies if not r.has_error()}
