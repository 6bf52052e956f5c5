"""Logs a stage to TensorBoard event files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from engine import Context
from engine_callbacks.config import TensorBoard
from engine_callbacks.tracker import Row, Tracker

_FLUSH_SECONDS = 10


class TensorBoardTracker(Tracker):
    """Writes a new event file at each start and roll-back; TensorBoard joins them to one log.

    A file's ``purge_step`` is the step from which it replaces earlier files.
    """

    def open(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`Tracker`. The step at which the log continues is known only after loading the
        state."""
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None

    def write(self, row: Row) -> None:
        """See :class:`Tracker`."""
        if self._writer is None:
            _wait_for_a_later_name(self._folder)
            self._writer = SummaryWriter(
                str(self._folder), purge_step=self.last + 1, flush_secs=_FLUSH_SECONDS
            )
        for name, value in row.figures.items():
            self._writer.add_scalar(name, value, row.step, walltime=row.time)

    def rewind(self, step: int) -> None:
        """See :class:`Tracker`."""
        self.close()
        self.last = step - 1

    def flush(self) -> None:
        """See :class:`Tracker`."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """See :class:`Tracker`."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _wait_for_a_later_name(folder: Path) -> None:
    """Waits until the next second if a file of this one exists: names begin with the second, and
    TensorBoard ignores a file that sorts before the last."""
    seconds = [int(file.name.split(".")[3]) for file in folder.glob("events.out.tfevents.*")]
    while int(time.time()) <= max(seconds, default=0):
        time.sleep(0.02)


def build(config: TensorBoard, context: Context) -> TensorBoardTracker:
    """The callback."""
    return TensorBoardTracker(context)
