"""Training FLOPs of a run's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine import Amount, RunHistory, StageHistory
from engine_scaling.points.runs import ended_early


class UnknownFlopsError(Exception):
    """Training FLOPs are not known; says why."""


def flops_of(run: RunHistory, model: str, step: int | None) -> float:
    """FLOPs of the training of a stage's model until a step, or its end, and of the stages that it
    started from. Raises UnknownFlopsError."""
    return _until(run, model, step, ())


def _until(run: RunHistory, name: str, step: int | None, before: tuple[str, ...]) -> float:
    stage = run.stages.get(name)
    if stage is None or not stage.training or name in before:
        raise UnknownFlopsError("not trained in its run")
    if stage.status != "done":
        raise UnknownFlopsError(f"its training is {stage.status}")
    tokens = _tokens(stage, step)
    try:
        own = float(stage.training["flops"]) * tokens / _planned(run, stage)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnknownFlopsError("its log has no FLOPs") from error
    origin = _origin(_train(run, name))
    return own + (_until(run, origin, None, (*before, name)) if origin else 0.0)


def _tokens(stage: StageHistory, step: int | None) -> float:
    columns = stage.steps.columns()
    if "tokens" not in columns or not len(columns["step"]):
        raise UnknownFlopsError("its log has no steps")
    if step is None:
        return float(columns["tokens"][-1])
    at = np.flatnonzero(columns["step"] == step)
    if not at.size:
        raise UnknownFlopsError(f"its log has no step {step}")
    return float(columns["tokens"][at[0]])


def _planned(run: RunHistory, stage: StageHistory) -> float:
    """The tokens that the FLOPs of the training's first event are of: its budget's.

    Raises UnknownFlopsError for a budget in time, or in epochs of which not all were trained, as the
    log does not tell its tokens; ValueError for none.
    """
    budget = Amount.parse(_train(run, stage.name).get("budget"))
    columns = stage.steps.columns()
    match budget.unit:
        case "tokens":
            return budget.value
        case "steps":  # of the first step's size, before a ramp
            return budget.value * float(columns["tokens"][0] / columns["step"][0])
        case "epochs":
            if ended_early(stage):
                raise UnknownFlopsError("it ended early, and its budget is in epochs")
            return float(columns["tokens"][-1])
    raise UnknownFlopsError(f"its budget is in {budget.unit}")


def _train(run: RunHistory, name: str) -> Mapping[str, Any]:
    """The fields of a train stage in the spec, with all defaults; none if it is damaged."""
    found: Any = run.spec
    for key in ("stages", name, "train"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _origin(train: Mapping[str, Any]) -> str | None:
    """The stage that the weights come from. Raises UnknownFlopsError if they come from elsewhere."""
    model = train.get("model")
    if isinstance(model, str):
        return model
    fields = model if isinstance(model, dict) else {}
    if fields.get("path") is not None:
        raise UnknownFlopsError("it started from a model of unknown FLOPs")
    stage = fields.get("stage")
    return stage if isinstance(stage, str) else None
