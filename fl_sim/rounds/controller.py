"""The course of a run, round by round: its pace, and a snapshot to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from logging import WARNING

from flwr.app import ArrayRecord
from flwr.supercore import log

from adversary.common.errors import one_line_error
from adversary.storage.run_folder import RunFolder, RunFolderError, one_line_io_errors
from fl_sim.progress import report_progress
from fl_sim.rounds.early_stopping import Pace, Progress
from fl_sim.rounds.server_state import ServerState, random_states
from strategies.strategy_state import state_dict
from strategies.wrappers.run_log import RunLog

COLUMNS = {"auc": "client_auc", "loss": "client_loss"}
"""Columns of rounds.csv that hold the monitored figures."""


class RoundController:
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

    def after_round(
        self,
        round: int,
        arrays: ArrayRecord,
        row: Mapping[str, float | None],
        strategy: RunLog,
    ) -> bool:
        """Record a round's metrics; return whether to continue.

        What cannot be written is told, and does not end the training.
        """
        before = self.progress
        self.progress = self.pace.after(round, row.get(COLUMNS[self.pace.monitor]), before)
        if self.pace.monitors:
            self._tell(round, before)
        try:
            if self.pace.monitors:
                self.folder.update(best=self._best(round))
            # Last: what came before is done again where there is no snapshot of it.
            with one_line_io_errors(self.folder.state):
                self._snapshot(round, arrays, strategy).save(self.folder.state)
        except RunFolderError as error:
            log(
                WARNING,
                "round %d: nothing was kept to go on from: %s",
                round,
                one_line_error(error),
            )
        return not self.stopped

    def _snapshot(self, round: int, arrays: ArrayRecord, strategy: RunLog) -> ServerState:
        return ServerState(
            round=round,
            arrays=arrays,
            memory=state_dict(strategy),
            took_part=strategy.took_part,
            progress=self.progress,
            random=random_states(),
        )

    def _best(self, round: int) -> dict[str, int | float | None]:
        """Return the entry of run.json on the monitored figure."""
        now = self.progress
        stopped_after = round if self.stopped else None
        return {
            "round": now.best_round,
            self.pace.monitor: now.best,
            "stopped_after": stopped_after,
        }

    def _tell(self, round: int, before: Progress) -> None:
        now = self.progress
        if self.stopped:
            report_progress(
                f"round {round} · stopped early: {self.pace.monitor} was best in round "
                f"{now.best_round}, {now.waited} rounds ago"
            )
        elif now.plateaus > before.plateaus:
            report_progress(
                f"round {round} · plateau: learning rate {self.rate(round + 1):.3g} from here on"
            )
