"""The course of a run, round by round: its pace, and a snapshot to go on from."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ArrayRecord

from adversary.report.run_folder import RunFolder, writing
from fl_sim.pace import Pace, Progress
from fl_sim.progress import say
from fl_sim.snapshot import Snapshot, random_states
from strategies.bookkeeping import Bookkeeping
from strategies.memory import remember

COLUMNS = {"auc": "client_auc", "loss": "client_loss"}
"""Columns of rounds.csv that hold the monitored figures."""


class Course:
    """Sets the learning rate of each round, and ends training where no more is gained.

    Parameters
    ----------
    pace : Pace
        The rules.
    folder : RunFolder
        Gets a snapshot after every round, and in run.json the best round.
    progress : Progress
        What was reached before.
    """

    def __init__(self, pace: Pace, folder: RunFolder, progress: Progress | None = None) -> None:
        self.pace = pace
        self.folder = folder
        self.progress = progress or Progress()

    @property
    def stopped(self) -> bool:
        """Whether training has stopped early."""
        return self.pace.stops(self.progress)

    def rate(self, round: int) -> float:
        """Return the clients' learning rate in a round."""
        return self.pace.rate(round, self.progress)

    def goes_on(
        self,
        round: int,
        arrays: ArrayRecord,
        row: Mapping[str, float | None],
        strategy: Bookkeeping,
    ) -> bool:
        """Note what a round has brought; return whether another one follows.

        Raises
        ------
        adversary.report.run_folder.RunFolderError
            If the snapshot cannot be written.
        """
        before = self.progress
        self.progress = self.pace.after(round, row.get(COLUMNS[self.pace.monitor]), before)
        if self.pace.monitors:
            self._tell(round, before)
        self._snapshot(round, arrays, strategy)  # last: what came before is done again without it
        return not self.stopped

    def _snapshot(self, round: int, arrays: ArrayRecord, strategy: Bookkeeping) -> None:
        snapshot = Snapshot(
            round=round,
            arrays=arrays,
            memory=remember(strategy),
            took_part=strategy.took_part,
            progress=self.progress,
            random=random_states(),
        )
        with writing(self.folder.state):
            snapshot.save(self.folder.state)

    def _tell(self, round: int, before: Progress) -> None:
        now, monitor = self.progress, self.pace.monitor
        best = {"round": now.best_round, monitor: now.best, "stopped_after": None}
        if now.plateaus > before.plateaus and not self.stopped:
            say(f"round {round} · plateau: learning rate {self.rate(round + 1):.3g} from here on")
        if self.stopped:
            best["stopped_after"] = round
            say(
                f"round {round} · stopped early: {monitor} was best in round {now.best_round}, "
                f"{now.waited} rounds ago"
            )
        self.folder.update(best=best)
