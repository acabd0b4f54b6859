"""A run of MLflow, at its tracking URI (``MLFLOW_TRACKING_URI``)."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow import MlflowClient

from adversary.storage.run_folder import RunFolder
from fl_sim.loggers.base import Logger, known
from fl_sim.settings.parse import flatten
from fl_sim.settings.schema import Settings

EXPERIMENT = "fl-sim"
_STATUS = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MLflow(Logger):
    """Writes a run of the experiment ``fl-sim``, with the settings as its parameters."""

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        run = self._client.create_run(experiment, run_name=folder.path.name)
        self._run = run.info.run_id
        for name, value in flatten(settings).items():
            self._client.log_param(self._run, name, value)

    def scalars(self, figures: Mapping[str, float | None], round: int) -> None:
        """Write the figures of a round."""
        for name, value in known(figures).items():
            self._client.log_metric(self._run, name, value, step=round)

    def end(self, status: str) -> None:
        """End MLflow's run."""
        self._client.set_terminated(self._run, _STATUS.get(status, "FAILED"))
