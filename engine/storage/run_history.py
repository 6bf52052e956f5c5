"""What happened in a run, read from its folder: nothing is built, and no plugin is needed.

A log may be damaged, and may be written to meanwhile: lines that are no events are counted, and a last
line without an end is left for later. Of steps that were repeated after a kill or a roll-back, only the
last ones count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from engine.errors import RunError, SpecError
from engine.files.reading import json_of, lines_of, read_json, read_regular
from engine.spec.loading import RESOLVED
from engine.storage.manifest import unsealed

LOG = "events.jsonl"
_PART = 8192
"""Steps that are gathered before they become columns."""
_LAST_STEP = 1 << 53
"""Largest step that a column of floats holds exactly."""

Event = Mapping[str, Any]


class Steps:
    """The figures of a stage's steps, by name; each an array with one number a step, NaN where a step
    has none."""

    def __init__(self) -> None:
        self.last = 0
        self._parts: list[tuple[tuple[str, ...], np.ndarray[Any, Any]]] = []
        self._rows: list[tuple[Any, ...]] = []
        self._keys: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
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
            # Fields that are no numbers are told from the first event of their kind.
            self._names = ("step", *(k for k, v in event.items() if k != "step" and _is_figure(v)))
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
        return {name: self._column(name) for name in names}

    def _column(self, name: str) -> np.ndarray[Any, Any]:
        blank = [
            part[:, own.index(name)] if name in own else np.full(len(part), np.nan)
            for own, part in self._parts
        ]
        return np.concatenate(blank)

    def _gather(self) -> None:
        if not self._rows:
            return
        try:
            part = np.array(self._rows, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError, OverflowError):
            part = np.array([[_number(value) for value in row] for row in self._rows])
        self._parts.append((self._names, part))
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
    or ``running``, the latter also for what was killed.
    """

    name: str
    verb: str = ""
    status: str = "running"
    training: dict[str, Any] = field(default_factory=dict)
    steps: Steps = field(default_factory=Steps)
    scores: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


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
            event = json_of(line)
            self._add(event)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            self.damaged += 1
            return
        self.last = event

    def _add(self, event: dict[str, Any]) -> None:
        kind, name = event["event"], event.get("stage")
        if not isinstance(name, str):
            return
        if name not in self.stages:
            self.stages[name] = StageHistory(name)
        stage = self.stages[name]
        match kind:
            case "step":
                if event["step"] <= stage.steps.last:
                    _forget(stage, event["step"])
                stage.steps.add(event)
            case "score":
                stage.scores.append({**event, "metric": str(event["metric"])})
            case "training":
                stage.training = event
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
        stage.events.append(event)


def _forget(stage: StageHistory, step: int) -> None:
    """Drops the scores of steps that are repeated."""
    stage.scores = [s for s in stage.scores if s.get("step") is None or s["step"] < step]


def read_run(path: Path) -> RunHistory:
    """Reads a run's folder.

    Raises SpecError if it is not a run's folder, RunError if its log cannot be read.
    """
    if not (path / RESOLVED).is_file() and not (path / LOG).is_file():
        raise SpecError(f"{path}: is not a run's folder", hint="name one such as runs/quickstart")
    history = RunHistory(path)
    try:
        for line in lines_of(path / LOG):
            history.add(line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RunError(f"{path / LOG}: cannot be read: {error.strerror or error}") from error
    history.spec = _loaded(path / RESOLVED)
    history.manifest = _json(path / "manifest.json")
    for name, stage in history.stages.items():
        record = _record(path / name / "stage.json")
        if stage.status == "running" and record.get("status") == "done":
            stage.status = "done"  # by a run whose log was lost
        if stage.status == "done":
            stage.summary = {**stage.summary, **record.get("summary", {})}
    if history.last.get("event") == "failed":
        for stage in history.stages.values():
            stage.status = "failed" if stage.status == "running" else stage.status
    return history


def _loaded(file: Path) -> dict[str, Any]:
    """A file of YAML; empty if it is missing or damaged."""
    try:
        found = yaml.safe_load(read_regular(file).decode("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    """A file of JSON; empty if it is missing or damaged."""
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _record(file: Path) -> dict[str, Any]:
    """A stage's record; empty if it is missing or damaged."""
    try:
        found = unsealed(read_regular(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return dict(found) if isinstance(found, Mapping) else {}
