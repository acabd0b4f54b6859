"""Local differential privacy whose noise is that of its epsilon."""

from __future__ import annotations

import math
from collections.abc import Collection
from logging import INFO

from flwr.app import MetricRecord
from flwr.supercore import log

from adversary.identification.ceilings import gaussian_mu
from adversary.observation.mechanisms import ClippedGaussian, DefenceError, is_buffer
from strategies.mods.updates import ClientUpdate, UpdateMod
from strategies.replies import NUM_EXAMPLES


class CalibratedLocalDpMod(UpdateMod):
    r"""Clips the update and adds the Gaussian noise that earns the epsilon asked for.

    Unlike ``flwr.clientapp.mod.LocalDpMod`` it takes no sensitivity: two clients' clipped updates
    are up to 2 ``clipping_norm`` apart ("replace one": the server knows who takes part). The noise
    is the least for (epsilon, delta) over all rounds together, by the exact trade-off of the
    Gaussian mechanism (Balle and Wang, ICML 2018); T rounds at multiplier z are one at
    z / sqrt(T). It holds for epsilon above 1 too, where sqrt(2 ln(1.25 / delta)) / epsilon does
    not.

    What else would leave is held back, for the guarantee is about all that leaves: counts and
    running statistics stay as the server sent them, and metrics other than ``metrics``.

    Parameters
    ----------
    clipping_norm : float
        Largest L2 norm of an update, over all trained arrays together, in units of the weights.
    epsilon : float
        For all images of the client together, over all rounds, > 0.
    delta : float
        In (0, 1).
    rounds : int
        In how many rounds the client takes part at most, >= 1; from then on it sends no more.
    metrics : collection of str
        Metrics that leave; they count as public.
    seed : int, optional
        See :class:`UpdateMod`. The guarantee needs that there is none.

    Examples
    --------
    >>> mod = CalibratedLocalDpMod(clipping_norm=1.0, epsilon=10.0, delta=1e-2, rounds=10)
    >>> round(mod.mechanism.noise_multiplier, 2)
    2.21
    """

    _COUNT = "local-dp-mod"

    def __init__(
        self,
        clipping_norm: float,
        epsilon: float,
        delta: float,
        rounds: int,
        *,
        metrics: Collection[str] = (NUM_EXAMPLES,),
        seed: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        for name, value, valid, allowed in (
            ("epsilon", epsilon, 0 < epsilon < math.inf, "a number > 0"),
            ("delta", delta, 0 < delta < 1, "> 0 and < 1"),
            ("rounds", rounds, rounds >= 1, "an integer >= 1"),
        ):
            if not valid:
                raise DefenceError(f"{name} = {value}: must be {allowed}")
        self.rounds = rounds
        self.metrics = frozenset(metrics)
        # mu = 2 C sqrt(T) / (z C)
        multiplier = 2 * math.sqrt(rounds) / gaussian_mu(epsilon, delta)
        self.mechanism = ClippedGaussian(clip=clipping_norm, noise_multiplier=multiplier)
        log(
            INFO,
            "local DP: noise of standard deviation %.3g on each weight earns epsilon %g at "
            "delta %g in %d rounds",
            self.mechanism.sigma,
            epsilon,
            delta,
            rounds,
        )

    def protect(self, update: ClientUpdate) -> None:
        """Put the clipped and noisy update into the reply.

        Raises
        ------
        DefenceError
            Where the client has taken part in all the rounds that the budget is for.
        """
        state = update.context.state
        done = int(state.metric_records[self._COUNT]["rounds"]) if self._COUNT in state else 0  # type: ignore[arg-type]
        if done >= self.rounds:
            raise DefenceError(f"the budget of {self.rounds} rounds is spent")
        state[self._COUNT] = MetricRecord({"rounds": done + 1})
        released = self.mechanism.release(
            update.sent, update.returned, generator=self.generator(update)
        )
        update.replace({n: update.sent[n] if is_buffer(n, v) else v for n, v in released.items()})
        for record in update.reply.content.metric_records.values():
            for name in set(record) - self.metrics:
                del record[name]
