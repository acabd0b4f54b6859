"""TensorBoard's event files, in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping

import tensorboard  # noqa: F401 (torch's error would not name it)
from torch.utils.tensorboard import SummaryWriter

from adversary.storage.run_folder import RunFolder
from fl_sim.loggers.base import Logger, known
from fl_sim.settings.schema import Settings


class TensorBoard(Logger):
    """Writes to ``loggers/tensorboard`` in the run's folder."""

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self._writer = SummaryWriter(str(folder.path / "loggers" / "tensorboard"))

    def scalars(self, figures: Mapping[str, float | None], round: int) -> None:
        """Write the figures of a round."""
        for name, value in known(figures).items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self._writer.close()
