"""What happened in a run, by its log: nothing is built, and no plugin is needed.

A log may be damaged: lines that are no events are counted. Of steps that were repeated after a kill or
a roll-back, only the last ones count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from engine.contracts.amounts import Amount

_PART = 8192
"""Steps that are gathered before they become columns."""
_LAST_STEP = 1 << 53
"""Largest step that a column of floats holds exactly."""

_TEXTS = frozenset({"step", "stage", "event"})
"""Fields of a step that are no figures; ``step`` stands first."""
_ENDS = {"failed": "failed", "interrupted": "stopped"}
"""What becomes of the stage that is running at an event that ends a run."""

Event = Mapping[str, Any]
_parsed = json.JSONDecoder().raw_decode
"""Parses a text and tells where it ends: half of the time of ``json.loads``, which looks for the
encoding of each line and for blanks around it."""


class Steps:
    """The figures of a stage's steps, by name; each an array with one number a step, NaN where a step
    has none."""

    def __init__(self) -> None:
        self.last = 0
        self._parts: list[tuple[tuple[str, ...], np.ndarray[Any, Any]]] = []
        self._rows: list[tuple[Any, ...]] = []
        self._keys: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self._mixed = False
        self._get: Callable[[Event], tuple[Any, ...]] = tuple

    def add(self, event: Event) -> None:
        """Adds a step. Raises ValueError, KeyError or TypeError for a damaged event."""
        step = event["step"]
        if type(step) is not int or not 0 <= step <= _LAST_STEP:
            raise ValueError(f"{step!r} is no step")
        if step <= self.last:
            self.cut(step)
        keys = tuple(event)
        if keys != self._keys or len(self._rows) >= _PART:
            self._gather()
            self._keys = keys
            # A text in the first event may be a number in the next.
            self._names = ("step", *(key for key in keys if key not in _TEXTS))
            self._mixed = not all(_is_figure(event[name]) for name in self._names)
            self._get = itemgetter(*self._names) if len(self._names) > 1 else _step_alone
        self._rows.append(self._get(event))
        self.last = step

    def cut(self, step: int) -> None:
        """Drops this step and all later ones."""
        self._gather()
        kept = []
        for names, part in self._parts:
            some = part[part[:, names.index("step")] < step]
            if len(some):
                kept.append((names, some))
        self._parts = kept
        self.last = int(kept[-1][1][-1, kept[-1][0].index("step")]) if kept else 0

    def columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """The figures by name, ``step`` and ``time`` among them, each float64 of shape (steps,)."""
        self._gather()
        names = dict.fromkeys(name for own, _ in self._parts for name in own)
        return {name: self.column(name) for name in names}

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """One figure, float64 of shape (steps,); NaN at each step where there is none of that name."""
        self._gather()
        blank = [
            part[:, own.index(name)] if name in own else np.full(len(part), np.nan)
            for own, part in self._parts
        ]
        return np.concatenate([np.empty(0), *blank])

    def not_finite_since(self, name: str) -> int | None:
        """The step from which on a figure is no finite number at any step; None if the last step has
        one, or does not have the figure."""
        self._gather()
        if not self._parts or name not in self._parts[-1][0]:
            return None
        finite = np.flatnonzero(np.isfinite(self.column(name)))
        steps = self.column("step")[int(finite[-1]) + 1 if len(finite) else 0 :]
        return int(steps[0]) if len(steps) else None

    def _gather(self) -> None:
        if not self._rows:
            return
        names = self._names
        if self._mixed:  # NumPy would read a text such as "7" as a number
            columns = list(zip(*self._rows, strict=True))
            kept = [i for i, column in enumerate(columns) if any(map(_is_figure, column))]
            names = tuple(names[i] for i in kept)
            part = np.array([[_number(row[i]) for i in kept] for row in self._rows])
        else:
            try:
                part = np.array(self._rows, dtype=np.float64)  # None becomes NaN
            except (TypeError, ValueError, OverflowError):
                part = np.array([[_number(value) for value in row] for row in self._rows])
        if self._parts and self._parts[-1][0] == names and len(self._parts[-1][1]) < _PART:
            # Else a reader that looks after each step would make a part of each.
            part = np.concatenate([self._parts.pop()[1], part])
        self._parts.append((names, part))
        self._rows = []
        self._keys = ()


def _step_alone(event: Event) -> tuple[Any, ...]:
    return (event["step"],)


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _number(value: Any) -> float:
    try:
        return float(value) if _is_figure(value) and value is not None else np.nan
    except OverflowError:
        return np.nan


@dataclass(slots=True)
class StageHistory:
    """What is known of a stage.

    ``training``: the figures of its start, e.g. ``parameters``, ``flops``, ``precision``; ``steps``:
    its steps; ``scores``: the events of its scores in order; ``events``: all others, except
    checkpoints; ``summary``: its record, if it is done; ``status``: ``done``, ``failed``, ``stopped``
    or ``running``, the latter also for what was killed; ``undecided``: it was started, and the log does
    not tell yet whether from its beginning or from a checkpoint.
    """

    name: str
    verb: str = ""
    status: str = "running"
    training: dict[str, Any] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)
    scores: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    undecided: bool = False

    @property
    def ended_early(self) -> Event | None:
        """The event of the training's end, if that came before its budget was spent; one from before
        the training was started again does not count."""
        ends = (e for e in reversed(self.events) if e["event"] == "ended_early")
        last = next(ends, None)
        return last if last is not None and last.get("step") == self.steps.last else None

    def flops_spent(self, name: str = "flops") -> float | None:
        """``flops`` or ``executed_flops`` of a training that is done.

        The log's figure is of the whole budget, of which a training that ended early has spent a part.
        None if that is not known: for a budget in time, and for one in epochs that was not spent.
        """
        try:
            planned, budget = float(self.training[name]), Amount.parse(self.summary["budget"])
            if budget.unit in ("steps", "tokens"):
                return planned * float(self.summary[budget.unit]) / budget.value
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        return planned if budget.unit == "epochs" and self.ended_early is None else None


@dataclass(slots=True)
class RunHistory:
    """What is known of a run: its stages by name in the order that they were started, the resolved
    spec, the manifest, the number of damaged lines, and the last event."""

    path: Path
    stages: dict[str, StageHistory] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    damaged: int = 0
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.path.resolve().name

    def add(self, line: bytes) -> None:
        """Adds a line of the log; counts it as damaged if it is no event."""
        try:
            text = line.strip().decode()
            event, end = _parsed(text)
            if end < len(text):
                raise ValueError("more follows the event")
            self._add(event)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            self.damaged += 1
            return
        self.last = event

    def _add(self, event: dict[str, Any]) -> None:
        kind, name = event["event"], event.get("stage")
        if not isinstance(name, str):
            if kind in _ENDS:
                for stage in self.stages.values():
                    stage.status = _ENDS[kind] if stage.status == "running" else stage.status
            return
        if name not in self.stages:
            self.stages[name] = StageHistory(name)
        stage = self.stages[name]
        if kind in ("step", "checkpoint") and stage.undecided:
            _begin_again(stage)
        match kind:
            case "step":
                if event["step"] <= stage.steps.last:
                    _forget(stage, event["step"])
                stage.steps.add(event)
            case "score":
                stage.scores.append({**event, "metric": str(event["metric"])})
            case "training":
                stage.training, stage.undecided = event, True
            case "checkpoint":
                pass
            case _:
                self._mark(stage, kind, event)

    def _mark(self, stage: StageHistory, kind: str, event: dict[str, Any]) -> None:
        """Keeps an event that is neither step nor score, and what it says of the stage's status."""
        if kind == "stage_started":
            stage.verb, stage.status = str(event["verb"]), "running"
            if stage.verb != "train":
                stage.scores, stage.events = [], []
        elif kind == "stage_finished":
            stage.status, stage.summary = "done", event
        elif kind == "stage_skipped":
            stage.status = "done"
        elif kind == "stopped":
            stage.status = "stopped"
        elif kind in ("resumed", "rolled_back"):
            stage.undecided = False
            if isinstance(step := event.get("step"), int) and step < stage.steps.last:
                _forget(stage, step + 1)
                stage.steps.cut(step + 1)
        stage.events.append(event)


def _begin_again(stage: StageHistory) -> None:
    """Drops what an earlier attempt has left, if the stage was started again from its beginning."""
    stage.undecided = False
    starts = [i for i, event in enumerate(stage.events) if event["event"] == "stage_started"]
    if len(starts) > 1:
        stage.steps.cut(0)
        stage.scores, stage.summary = [], {}
        stage.events = stage.events[starts[-1] :]


def _forget(stage: StageHistory, step: int) -> None:
    """Drops the scores and the samples of steps that are repeated."""
    stage.scores = [s for s in stage.scores if s.get("step") is None or s["step"] < step]
    stage.events = [
        e
        for e in stage.events
        if e["event"] != "sample" or e.get("step") is None or e["step"] < step
    ]
