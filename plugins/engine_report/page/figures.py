"""The figures of runs as the page and ``--json`` give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine import RunHistory, StageHistory
from engine_report.page.curves import Columns, Curves, buckets_for, names_of, thinned
from engine_report.page.matrix import number_of
from engine_report.page.outcome import planned, reached
from engine_report.page.scores import Scored, last_of, scores_of
from engine_report.page.titles import tells_stability

_MARKS = 2000
"""Skipped steps that are marked; of more, evenly many."""


@dataclass(frozen=True, slots=True)
class StageFigures:
    """A stage: its ``curves``; the steps that were ``skipped``, ``skips`` in all; the steps that it was
    ``rolled_back`` to, with the reason; what was ``planned`` and what was ``reached``."""

    verb: str
    status: str
    curves: Curves
    skips: int
    skipped: list[int]
    rolled_back: list[tuple[int, str]]
    ended_early: str | None
    """Step and reason, if its training has ended before its budget was spent."""
    not_finite: Mapping[str, int]
    """The losses and norms of gradients that are not finite up to the last step, and since when."""
    planned: Mapping[str, float | None]
    reached: Mapping[str, float | None]
    extremes: Mapping[str, tuple[int, float, int, float]]
    """Of each figure: the step of its least value, this value, and the same of its greatest."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model wrote after a prompt at a step; ``step`` is None outside of training."""

    stage: str
    step: int | None
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run: ``started`` and ``last`` are times in seconds since the epoch, ``damaged`` the number of
    lines of its log that are no events, ``notes`` what a reader must know of it."""

    label: str
    path: str
    status: str
    started: float | None
    last: float | None
    damaged: int
    notes: list[str]
    stages: dict[str, StageFigures]
    scores: list[Scored] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def training_seconds(self) -> float | None:
        """The time of all training steps; pauses, scores and checkpoints do not count."""
        known = [stage.reached["seconds"] for stage in self.stages.values()]
        return sum(one for one in known if one is not None) if any(known) else None


def labels_of(runs: Sequence[RunHistory]) -> list[str]:
    """What each run is called: its folder's name, or its path where others have this name."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else str(run.path)
        for name, run in zip(names, runs, strict=True)
    ]


def figures_of(runs: Sequence[RunHistory]) -> list[RunFigures]:
    """The figures of the runs, whose curves have fewer buckets the more of them there are."""
    columns = [{name: s.steps.columns() for name, s in run.stages.items()} for run in runs]
    curves = sum(len(names_of(own)) for of_run in columns for own in of_run.values())
    buckets = buckets_for(curves)
    labels = labels_of(runs)
    return [_run(*one, buckets) for one in zip(labels, runs, columns, strict=True)]


def _run(label: str, run: RunHistory, columns: Mapping[str, Columns], buckets: int) -> RunFigures:
    events = (event for stage in run.stages.values() for event in stage.events)
    scores = scores_of(run)
    times = (number_of(event.get("time")) for event in events)
    return RunFigures(
        label=label,
        path=str(run.path),
        status=_status(run),
        started=min((time for time in times if time is not None), default=None),
        last=number_of(run.last.get("time")),
        damaged=run.damaged,
        notes=[*_notes(run), *_lost_scores(scores)],
        stages={name: _stage(s, columns[name], buckets) for name, s in run.stages.items()},
        scores=scores,
        samples=[one for name, stage in run.stages.items() for one in _samples(name, stage)],
    )


def _status(run: RunHistory) -> str:
    """``done``, ``failed``, ``stopped``, or ``not finished``: a log does not tell a run that goes on
    from one that was killed."""
    found = {stage.status for stage in run.stages.values()}
    for status in ("failed", "stopped"):
        if status in found:
            return status
    asked = run.spec.get("stages")
    begun = set(run.stages)
    complete = begun >= set(asked) if isinstance(asked, dict) else bool(begun)
    return "done" if complete and found == {"done"} else "not finished"


def _notes(run: RunHistory) -> Iterator[str]:
    if run.damaged:
        lines = "line" if run.damaged == 1 else "lines"
        yield f"{run.damaged:,} {lines} of the log are damaged and left out."
    if run.last.get("event") == "failed":
        yield f"It failed: {run.last.get('error')}"
    for name, stage in run.stages.items():
        yield from _notes_of(name, stage)


def _notes_of(name: str, stage: StageHistory) -> Iterator[str]:
    resumed = sum(event.get("event") == "resumed" for event in stage.events)
    if resumed:
        yield f"{name}: resumed {'once' if resumed == 1 else f'{resumed:,} times'}"
    for event in stage.events:
        match event.get("event"):
            case "ended_early":
                yield f"{name}: ended early at step {event.get('step')}: {event.get('reason')}"
            case "stopped":
                yield f"{name}: stopped at step {event.get('step')}: {event.get('reason')}"
            case "warning" if stage.verb != "prepare":
                yield f"{name}: {event.get('message')}"


def _lost_scores(scores: Sequence[Scored]) -> Iterator[str]:
    """The last scores that are no finite number."""
    for one in last_of(scores).values():
        if one.value is None:
            at = "" if one.step is None else f" at step {one.step:,}"
            yield f"{one.place}: the score {one.name} is not finite{at}"


def _stage(stage: StageHistory, columns: Columns, buckets: int) -> StageFigures:
    skips = _skipped(columns)
    kept = skips[:: max(1, -(-len(skips) // _MARKS))]
    early = stage.ended_early
    since = {name: stage.steps.not_finite_since(name) for name in columns if tells_stability(name)}
    return StageFigures(
        verb=stage.verb,
        status=stage.status,
        curves=thinned(columns, buckets),
        skips=len(skips),
        skipped=kept,
        rolled_back=[
            (int(step), str(event.get("reason")))
            for event in stage.events
            if event.get("event") == "rolled_back"
            and (step := number_of(event.get("step"))) is not None
        ],
        ended_early=None if early is None else f"at step {early['step']:,}: {early.get('reason')}",
        not_finite={name: step for name, step in since.items() if step is not None},
        planned=planned(stage),
        reached=reached(stage, columns),
        extremes={name: _extremes(columns, name) for name in names_of(columns)},
    )


def _skipped(columns: Columns) -> list[int]:
    if "skipped" not in columns:
        return []
    skipped = np.nan_to_num(columns["skipped"]) != 0
    return [int(step) for step in columns["step"][skipped]]


def _extremes(columns: Columns, name: str) -> tuple[int, float, int, float]:
    values = columns[name]
    finite = np.isfinite(values)
    least = int(np.argmin(np.where(finite, values, np.inf)))
    most = int(np.argmax(np.where(finite, values, -np.inf)))
    steps = columns["step"]
    return int(steps[least]), float(values[least]), int(steps[most]), float(values[most])


def _samples(name: str, stage: StageHistory) -> Iterator[Sample]:
    for event in stage.events:
        if event.get("event") == "sample":
            step = number_of(event.get("step"))
            at = None if step is None else int(step)
            yield Sample(name, at, str(event.get("prompt", "")), str(event.get("text", "")))
