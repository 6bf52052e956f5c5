"""What a stage was expected to need, and what it needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine import StageHistory
from engine_report.page.curves import Columns
from engine_report.page.matrix import (
    NOTHING,
    Matrix,
    amount,
    count,
    duration,
    number_of,
    precise,
    size,
)

Figures = Mapping[str, float | None]

SHOWN: Mapping[str, tuple[str, Callable[[float | None], str]]] = {
    "parameters": ("parameters", count),
    "steps": ("steps", count),
    "tokens": ("tokens", count),
    "flops": ("FLOPs of the model", amount),
    "seconds": ("time of training", duration),
    "tokens_per_second": ("tokens per second", count),
    "utilisation": ("utilisation", lambda v: NOTHING if v is None else f"{v:.1%}"),
    "memory": ("peak memory of a process", size),
    "loss": ("loss of the last step", precise),
    "not_finite_since": ("loss not finite since step", count),
}
"""What is compared, each with its name and its format."""
_NOT_TIMED = (
    "Time and speed are planned for stages of 1e13 FLOPs or a minute and more, on machines whose speed "
    "is known; utilisation is not planned."
)
_MEMORY = (
    "Memory has no ratio: the plan counts the tensors of the training, and the outcome is that of the "
    "whole process on a CPU, that of its tensors on a GPU."
)


def planned(stage: StageHistory) -> dict[str, float | None]:
    """The figures of the stage's last event ``plan``; empty if it has none."""
    told: dict[str, Any] = {}
    for event in stage.events:
        if event.get("event") == "plan" and isinstance(event.get("expected"), dict):
            told = event["expected"]
    if not told:
        return {}
    found: dict[str, float | None] = {name: number_of(told.get(name)) for name in SHOWN}
    tokens, seconds = found["tokens"], found["seconds"]
    found["tokens_per_second"] = tokens / seconds if tokens and seconds else None
    return found


def reached(stage: StageHistory, columns: Columns) -> dict[str, float | None]:
    """What the stage has needed until now, by its steps and its record."""
    tokens, seconds = _last(columns, "tokens"), _seconds(columns)
    steps = _last(columns, "step")
    lost = stage.steps.not_finite_since("loss")
    return {
        "parameters": number_of(stage.training.get("parameters")),
        "steps": steps if steps is not None else number_of(stage.summary.get("steps")),
        "tokens": tokens if tokens is not None else number_of(stage.summary.get("tokens")),
        "flops": _flops(stage, tokens),
        "seconds": seconds or number_of(stage.summary.get("training_seconds")),
        "tokens_per_second": tokens / seconds if tokens and seconds else None,
        "utilisation": _mean_over_time(columns, "utilisation"),
        "memory": _most(columns, "memory"),
        "loss": None if lost is not None else _last(columns, "loss"),
        "not_finite_since": lost,
    }


def _flops(stage: StageHistory, tokens: float | None) -> float | None:
    """The model's FLOPs until now: of a stage that has not used its budget, in proportion to tokens."""
    if stage.status == "done":
        return stage.flops_spent()
    whole = number_of(stage.training.get("flops"))
    expected = planned(stage).get("tokens")
    if whole is None or tokens is None or not expected:
        return None
    return whole * min(1.0, tokens / expected)


def compared(runs: Sequence[str], found: Sequence[tuple[Figures, Figures]]) -> Matrix:
    """The plan beside the outcome: of one run with their ratio, of several in one cell."""
    names = [
        name
        for name in SHOWN
        if any(one.get(name) is not None for plan, outcome in found for one in (plan, outcome))
    ]
    if len(runs) == 1:
        ((plan, outcome),) = found
        if not plan:
            alone = [(SHOWN[name][0], _told(name, outcome)) for name in names]
            return Matrix("", ("outcome",), alone, notes=("The log has no plan of this stage.",))
        rows = [
            (
                SHOWN[name][0],
                [_expected(name, plan), *_told(name, outcome), _ratio(name, plan, outcome)],
            )
            for name in names
        ]
        return Matrix("", ("plan", "outcome", "outcome ÷ plan"), rows, notes=_notes([plan]))
    several = [(SHOWN[name][0], [_cell(name, *one) for one in found]) for name in names]
    plans = [plan for plan, _ in found if plan]
    note = ("In brackets: what the plan was.",) if plans else ()
    return Matrix("", runs, several, notes=(*note, *_notes(plans))).narrow()


def _notes(plans: Sequence[Figures]) -> tuple[str, ...]:
    """What one must know to compare these plans with their outcomes."""
    memory = any(plan.get("memory") is not None for plan in plans)
    timed = all(plan.get("seconds") is not None for plan in plans)
    return ((_MEMORY,) if memory else ()) + (() if timed else (_NOT_TIMED,))


def _told(name: str, *figures: Figures) -> list[str]:
    return [SHOWN[name][1](one.get(name)) for one in figures]


def _expected(name: str, plan: Figures) -> str:
    (planned,) = _told(name, plan)
    return f"{planned} of tensors" if name == "memory" and planned != NOTHING else planned


def _cell(name: str, plan: Figures, outcome: Figures) -> str:
    (found,) = _told(name, outcome)
    return found if plan.get(name) is None else f"{found} ({_expected(name, plan)})"


def _ratio(name: str, plan: Figures, outcome: Figures) -> str:
    expected, found = plan.get(name), outcome[name]
    if name == "memory" or not expected or found is None:
        return ""
    return f"{found / expected:.2f}"


def _seconds(columns: Columns) -> float | None:
    """The time of all steps."""
    seconds = _seconds_each(columns)
    return float(np.nansum(seconds)) if np.isfinite(seconds).any() else None


def _seconds_each(columns: Columns) -> np.ndarray[Any, Any]:
    """The time of each step by its tokens and its speed, NaN where these are not known; empty if they
    are known of none."""
    if "tokens" not in columns or "tokens_per_second" not in columns:
        return np.empty(0)
    own = np.diff(columns["tokens"], prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = own / columns["tokens_per_second"]
    timed: np.ndarray[Any, Any] = np.where(np.isfinite(seconds) & (seconds > 0), seconds, np.nan)
    return timed


def _last(columns: Columns, name: str) -> float | None:
    known = _finite(columns, name)
    return float(known[-1]) if len(known) else None


def _mean_over_time(columns: Columns, name: str) -> float | None:
    """The mean of a figure in which a step counts by its time; all steps alike if this is not known."""
    seconds, values = _seconds_each(columns), columns.get(name, np.empty(0))
    if len(seconds) and len(values):
        both = np.isfinite(seconds) & np.isfinite(values)
        if both.any():
            return float(np.average(values[both], weights=seconds[both]))
    known = _finite(columns, name)
    return float(np.mean(known)) if len(known) else None


def _most(columns: Columns, name: str) -> float | None:
    known = _finite(columns, name)
    return float(np.max(known)) if len(known) else None


def _finite(columns: Columns, name: str) -> np.ndarray[Any, Any]:
    values = columns.get(name, np.empty(0))
    return values[np.isfinite(values)]
