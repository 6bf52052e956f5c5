"""How much of a stage's budget is spent, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import Amount, StageHistory

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total``, in ``unit``."""

    done: float
    total: float
    unit: str

    @property
    def share(self) -> float:
        """Share of the budget, from 0 to 1."""
        return min(1.0, self.done / self.total)

    def seconds_left(self, pace: Sequence[Event]) -> float | None:
        """Seconds until the budget is spent, by the last steps."""
        rest = max(0.0, self.total - self.done)
        if self.unit == "seconds":
            return rest
        seconds = step_seconds(pace)
        if seconds is None:
            return None
        count = "tokens" if self.unit == "tokens" else "step"
        try:
            first, last = float(pace[0][count]), float(pace[-1][count])
            spent = self.done * (last - first) / last / (len(pace) - 1)
            return rest * seconds / spent
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None


def step_seconds(pace: Sequence[Event]) -> float | None:
    """Mean time of a step, evaluations between them counted; None if it is not known."""
    try:
        mean = (float(pace[-1]["time"]) - float(pace[0]["time"])) / (len(pace) - 1)
        return mean if np.isfinite(mean) else None
    except (KeyError, TypeError, ValueError, IndexError, ArithmeticError):
        return None


def progress_of(stage: StageHistory, spec: Mapping[str, Any]) -> Progress | None:
    """Progress of a train stage whose spec is known; None where its budget cannot be compared with what
    its steps tell."""
    try:
        train = spec["stages"][stage.name]["train"]
        budget = Amount.parse(train["budget"])
        done = _DONE[budget.unit](stage, train)
    except (AttributeError, LookupError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (np.isfinite(done) and budget.value > 0):
        return None
    return Progress(done, budget.value, budget.unit)


def _steps(stage: StageHistory, train: Mapping[str, Any]) -> float:
    return float(stage.steps.last)


def _tokens(stage: StageHistory, train: Mapping[str, Any]) -> float:
    return float(stage.steps.column("tokens")[-1])


def _seconds(stage: StageHistory, train: Mapping[str, Any]) -> float:
    """Seconds in steps, which are what a budget in time counts."""
    tokens, speed = stage.steps.column("tokens"), stage.steps.column("tokens_per_second")
    return float(np.nansum(np.diff(tokens, prepend=0.0) / speed))


def _epochs(stage: StageHistory, train: Mapping[str, Any]) -> float:
    """Epochs by the rows of a step. Raises KeyError if they change, or if it is not known how many."""
    batch = train["batch"]
    if batch.get("ramp"):
        raise KeyError("ramp")
    rows = batch.get("examples")
    if not rows:
        chosen = [e["sequence"] for e in stage.events if e["event"] == "rows_chosen"]
        sequence = batch.get("sequence") or (chosen or [train["model"]["context"]])[-1]
        rows = batch["tokens"] // sequence
    return float(stage.steps.last * rows / stage.training["rows"])


_DONE = {"steps": _steps, "tokens": _tokens, "seconds": _seconds, "epochs": _epochs}
