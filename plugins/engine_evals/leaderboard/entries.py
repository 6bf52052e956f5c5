"""Reads the scored checkpoints of runs from their logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import RunError, read_regular

Column = tuple[str, str]
"""An evaluator and its metric."""


@dataclass(frozen=True, slots=True)
class LoggedScore:
    """A score in the log; ``value`` is None if it was not finite."""

    value: float | None
    stderr: float | None
    n: int | None
    higher_is_better: bool
    interval: tuple[float, float] | None


@dataclass(slots=True)
class Entry:
    """A model's scores at a step; ``step`` is None for a model not trained in the run."""

    run: str
    model: str
    step: int | None
    parameters: int | None = None
    scores: dict[Column, LoggedScore] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Run and stage."""
        return f"{self.run}/{self.model}"


def read_entries(folder: Path) -> tuple[list[Entry], int]:
    """An entry for each scored checkpoint of the runs in a folder, and the number of damaged lines."""
    entries: list[Entry] = []
    damaged = 0
    for file in sorted(folder.glob("*/events.jsonl")):
        log = _RunLog(file.parent.name)
        for event in _events(file):
            try:
                log.read(event)
            except (KeyError, TypeError, ValueError, OverflowError):
                damaged += 1
        entries += log.entries.values()
    return entries, damaged


class _RunLog:
    """Collects the entries of one run from its events."""

    def __init__(self, run: str) -> None:
        self.entries: dict[tuple[str, int | None], Entry] = {}
        self._run = run
        self._parameters: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._begun: set[str] = set()

    def read(self, event: Mapping[str, Any]) -> None:
        """Processes an event. Raises KeyError, TypeError or ValueError for a damaged one."""
        match event["event"]:
            case "training":
                self._begun.add(event["stage"])
                self._parameters[event["stage"]] = _whole(event["parameters"])
            case "resumed":
                self._begun.discard(event["stage"])
            case "step":
                self._forget(event["stage"])
                self._steps[event["stage"]] = _whole(event["step"])
            case "score":
                self._score(event)

    def _forget(self, stage: str) -> None:
        """Drops a stage's scores from before a rerun, which belong to another model."""
        if stage in self._begun:
            self._begun.discard(stage)
            self.entries = {key: entry for key, entry in self.entries.items() if key[0] != stage}

    def _score(self, event: Mapping[str, Any]) -> None:
        self._forget(event["stage"])
        model, step = str(event["model"]), event["step"]
        # An evaluate stage scores the latest training step.
        step = self._steps.get(model) if step is None else _whole(step)
        score = LoggedScore(
            _finite(event["value"]),
            _error(event.get("stderr")),
            event.get("n"),
            bool(event.get("higher_is_better", True)),
            _pair(event.get("interval")),
        )
        column = str(event["evaluator"]), str(event["metric"])
        entry = self.entries.setdefault((model, step), Entry(self._run, model, step))
        entry.parameters = self._parameters.get(model)
        entry.scores[column] = score


def _events(file: Path) -> Iterator[Mapping[str, Any]]:
    """The events of a log, without blank lines; an empty event for a line that is not an object."""
    try:
        lines = read_regular(file, 1 << 40).splitlines()
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}") from error
    for line in filter(bytes.strip, lines):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        yield event if isinstance(event, dict) else {}


def _finite(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _error(value: Any) -> float | None:
    number = _finite(value)
    if number is not None and number < 0:
        raise ValueError(f"{value} is not a standard error")
    return number


def _whole(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{value} is not a count")
    return number


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value
    return float(low), float(high)


def columns_of(entries: Iterable[Entry]) -> list[Column]:
    """The columns in which any entry has a score."""
    return list(dict.fromkeys(column for entry in entries for column in entry.scores))
