"""Flower's central differential privacy around FedAvg, with Flower's accountant."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    Strategy,
)
from flwr.supercore.privacy_accounting import (
    NeighboringRelation,
    PrivacyConfig,
    SamplingMethod,
)
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

from strategies.wrappers.base import StrategyWrapper


class CentralDP(StrategyWrapper):
    """Clips each client's update, averages them with equal weights, and adds noise in the server.

    Flower's :class:`DifferentialPrivacyServerSideFixedClipping` (McMahan et al. 2018) with
    Flower's accountant. A mean weighted by the number of images, as FedAvg takes it, has no
    bounded share of a client, and the accountant refuses it; so every reply counts once. A round
    in which a client failed is dropped: the noise would be too small for the others.

    Parameters
    ----------
    strategy : FedAvg
        FedAvg, or a subclass that aggregates as it does.
    noise_multiplier : float
        Standard deviation of the noise on the sum of the updates over ``clip``, >= 0; without
        noise there is no accountant.
    clip : float
        L2 norm to which each update is clipped, > 0.
    clients : int
        How many clients train in a round.
    delta : float
        In (0, 1).

    Raises
    ------
    ValueError
        If the accountant cannot be had with ``strategy``.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        noise_multiplier: float,
        clip: float,
        clients: int,
        delta: float,
    ) -> None:
        accountant = RdpAccountant(
            PrivacyConfig(
                target_delta=delta,
                population_size=clients,
                neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
                sampling_method=SamplingMethod.NO_AMPLIFICATION,
            )
        )
        self.private = DifferentialPrivacyServerSideFixedClipping(
            strategy,
            noise_multiplier=noise_multiplier,
            clipping_norm=clip,
            num_sampled_clients=clients,
            accountant=accountant if noise_multiplier else None,
        )
        super().__init__(self.private)
        self._weight = strategy.weighted_by_key if isinstance(strategy, FedAvg) else ""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate copies of the replies, each with the same weight."""
        return super().aggregate_train(server_round, [self._counting_once(r) for r in replies])

    def _counting_once(self, reply: Message) -> Message:
        reply = copy.deepcopy(reply)  # Flower clips it in place
        if not reply.has_error():
            for metrics in reply.content.metric_records.values():
                metrics[self._weight] = 1
        return reply
