"""Base class of the experiment trackers: writes a step's figures and scores as one row, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import Callback, Context

_NOT_FIGURES = {"step", "time"}


@dataclass(frozen=True, slots=True)
class Row:
    """The figures and scores of a step; ``time`` is in seconds since the epoch."""

    step: int
    time: float
    figures: dict[str, float] = field(default_factory=dict)


class Tracker(Callback):
    """Writes each step's row, with its scores, after the step; on rank 0 only.

    ``last`` is the last step in the tracker's log. A resumed run repeats steps that the killed run has
    logged, with the same numbers, so rows up to ``last`` are not written again.
    """

    def __init__(self, context: Context) -> None:
        self.last = 0
        self._active = context.rank == 0
        self._row: Row | None = None

    def open(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Begins or continues the log in the stage's folder, and sets ``last``."""
        raise NotImplementedError

    def write(self, row: Row) -> None:
        """Adds a row."""
        raise NotImplementedError

    def rewind(self, step: int) -> None:
        """Called when a roll-back repeats ``step``. A tracker that can remove rows lowers ``last``; in
        others the rows stay, and the repeated steps are not written."""

    def flush(self) -> None:
        """Called before a checkpoint: makes all rows so far durable against a kill."""

    def close(self) -> None:
        """Called when the stage ends."""
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
