"""How fast clients learn in each round, and when training has brought all it can."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adversary.observation.schedules import SCHEDULES

if TYPE_CHECKING:
    from fl_sim.settings.schema import Settings


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The learning rate of each round, and when to stop, by a schedule and a monitored figure.

    The plateau rule is that of torch's ``ReduceLROnPlateau`` (which acts one round later for the
    same patience) and the stopping rule that of Prechelt, "Early stopping - but when?" (1998),
    UP_s. A schedule and plateaus multiply.

    Parameters
    ----------
    lr : float
        Learning rate of the first round, > 0.
    rounds : int
        Rounds of the run, over which the schedule stretches.
    schedule : str
        Over the rounds, a key of :data:`~adversary.observation.schedules.SCHEDULES`.
    decay, decay_every
        Of the ``step`` schedule.
    monitor : str
        One of :data:`MONITORS`.
    min_delta : float
        Gain of the figure over its best that counts as one has to be larger than this, >= 0.
    stop_patience, plateau_patience : int
        Rounds without a gain after which training stops, or the rate is reduced; 0 is never.
    plateau_factor : float
        By which it is reduced, in (0, 1).
    """

    lr: float
    rounds: int
    schedule: str = "constant"
    decay: float = 0.1
    decay_every: int = 1
    monitor: str = "auc"
    min_delta: float = 0.0
    stop_patience: int = 0
    plateau_patience: int = 0
    plateau_factor: float = 0.1

    @property
    def monitors(self) -> bool:
        """Whether anything goes by the monitored figure."""
        return bool(self.stop_patience or self.plateau_patience)

    def rate(self, round: int, progress: Progress) -> float:
        """Return the clients' learning rate in a round, from 1."""
        schedule = SCHEDULES[self.schedule]
        factor = schedule(round - 1, self.rounds, self.decay, self.decay_every)
        return self.lr * factor * self.plateau_factor**progress.plateaus

    def after(self, round: int, figure: float | None, progress: Progress) -> Progress:
        """Return the progress after a round; a figure that cannot be had is no gain."""
        if not self.monitors:
            return progress
        if figure is not None and self._gained(figure, progress.best):
            return dataclasses.replace(
                progress, best=figure, best_round=round, waited=0, waited_at_rate=0
            )
        waited, at_rate = progress.waited + 1, progress.waited_at_rate + 1
        reduces = 0 < self.plateau_patience <= at_rate
        return dataclasses.replace(
            progress,
            waited=waited,
            waited_at_rate=0 if reduces else at_rate,
            plateaus=progress.plateaus + reduces,
        )

    def stops(self, progress: Progress) -> bool:
        """Return whether training stops early."""
        return 0 < self.stop_patience <= progress.waited

    def _gained(self, figure: float, best: float | None) -> bool:
        if not math.isfinite(figure):
            return False
        if best is None:
            return True
        return (figure - best if self.monitor == "auc" else best - figure) > self.min_delta


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a run has reached, by the monitored figure.

    Parameters
    ----------
    best : float or None
        The best figure so far; None before the first.
    best_round : int
        Its round; 0 before the first.
    waited, waited_at_rate : int
        Rounds without a gain, and those of them at the present learning rate.
    plateaus : int
        How often the learning rate was reduced.
    """

    best: float | None = None
    best_round: int = 0
    waited: int = 0
    waited_at_rate: int = 0
    plateaus: int = 0


def pace_of(settings: Settings) -> Pace:
    """Return the pace that the settings describe."""
    local, strategy = settings.local, settings.strategy
    return Pace(
        lr=local.lr,
        rounds=settings.rounds,
        schedule=local.schedule if local.schedule_over == "rounds" else "constant",
        decay=local.decay,
        decay_every=local.decay_every,
        monitor=strategy.monitor,
        min_delta=strategy.min_delta,
        stop_patience=strategy.stop_patience,
        plateau_patience=strategy.plateau_patience,
        plateau_factor=strategy.plateau_factor,
    )
