"""What the experiment trackers share: a step's figures and scores as one row, each row once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import BaseCallback, Context

_NOT_FIGURES = {"step", "time"}


@dataclass(frozen=True, slots=True)
class Row:
    """All that is known of a step; ``time`` in seconds since the epoch."""

    step: int
    time: float
    figures: dict[str, float] = field(default_factory=dict)


class Tracker(BaseCallback):
    """Writes each step's row when the step is over, its scores with it; on rank 0 only.

    ``last`` is the last step in the tracker's log. A killed run has written steps that the resumed
    one takes again, to the same numbers: rows up to ``last`` are not written twice.
    """

    def __init__(self, context: Context) -> None:
        self.last = 0
        self._active = context.rank == 0
        self._row: Row | None = None

    def open(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Begins a log in the stage's folder or goes on with it, and sets ``last``."""
        raise NotImplementedError

    def write(self, row: Row) -> None:
        """Adds a row."""
        raise NotImplementedError

    def rewind(self, step: int) -> None:
        """After a roll-back this step comes again. Where rows can be taken back, lowers ``last``;
        elsewhere they stay, and the steps that come again are not written."""

    def flush(self) -> None:
        """A checkpoint is being written: no row so far may be missing after a kill."""

    def close(self) -> None:
        """The stage ends."""
        raise NotImplementedError

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        if self._active:
            self.open(stage, folder, config)

    def step_finished(self, event: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self._finish_row()
        if event["step"] <= self.last:
            self.rewind(event["step"])
        figures = {
            name: float(value)
            for name, value in event.items()
            if isinstance(value, int | float) and name not in _NOT_FIGURES
        }
        self._row = Row(event["step"], event["time"], figures)

    def scored(self, event: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        if self._row is None:
            self._row = Row(event["step"], event["time"])
        self._row.figures[f"{event['evaluator']}/{event['metric']}"] = event["value"]

    def stage_finished(self) -> None:
        """See :class:`engine.Callback`."""
        if self._active:
            self._finish_row()
            self.close()

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Callback`."""
        self._finish_row()
        if self._active:
            self.flush()
        return {"last": self.last}

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self.last = max(self.last, state["last"])

    def _finish_row(self) -> None:
        row, self._row = self._row, None
        if self._active and row is not None and row.step > self.last:
            self.write(row)
            self.last = row.step
