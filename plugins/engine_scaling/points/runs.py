"""Points of the train stages of runs, read from the runs' folders without any plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import Amount, RunHistory, StageHistory, read_json, read_run
from engine_scaling.points.point import Found, Point
from engine_scaling.points.sweeps import HELD_OUT, REASONS, role_of

_LOG = "events.jsonl"
_EVALUATOR = "perplexity"
_COUNTED = ("steps", "tokens")
"""Units of budgets that a stage's record tells, too."""
FLOPS = 6
"""FLOPs of training for each parameter and token, where a run does not tell."""


def runs_in(path: Path) -> list[Path]:
    """The run's folder, or those of the runs in a folder, or in its folder ``runs`` as in that of a
    sweep; empty if there are none."""
    if (path / _LOG).is_file():
        return [path]
    own, inner = (sorted(f.parent for f in p.glob(f"*/{_LOG}")) for p in (path, path / "runs"))
    return own or inner


def add_run(path: Path, found: Found, *, named: bool = True) -> None:
    """Adds a point for each train stage of a run; what is none is left out with the reason, and so is
    what a sweep holds out, unless the run itself was ``named``."""
    role = role_of(path)
    if role and not (named and role == HELD_OUT):
        found.left_out.append((path.resolve().name, REASONS[role]))
        return
    run = read_run(path)
    if run.damaged:
        found.notes.append(f"{run.name}: {run.damaged} damaged lines of its log were left out")
    for name in _train_stages(run):
        stage = run.stages.get(name, StageHistory(name))
        label = f"{run.name}/{name}"
        try:
            found.add(_point(run, stage, label, found.notes))
            train = _part(_part(run.spec.get("stages"), name), "train")
            length = _part(train, "batch").get("sequence") or _part(train, "model").get("context")
            if isinstance(length, int):
                found.lengths.setdefault(length, label)
            if role:
                found.held_out.append(label)
        except _NoPointError as reason:
            found.left_out.append((label, str(reason)))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            found.left_out.append((label, "its record is damaged"))


class _NoPointError(Exception):
    """Why a stage is no point."""


def _train_stages(run: RunHistory) -> list[str]:
    declared = run.spec.get("stages")
    stages = declared if isinstance(declared, dict) else {}
    trained = [str(name) for name, stage in stages.items() if _part(stage, "train")]
    return trained or [name for name, stage in run.stages.items() if stage.verb == "train"]


def _point(run: RunHistory, stage: StageHistory, label: str, notes: list[str]) -> Point:
    """The point of a stage. Raises _NoPointError, or what a damaged record raises."""
    train = _part(_part(run.spec.get("stages"), stage.name), "train")
    _check_finished(stage)
    model = _part(train, "model")
    if any(model.get(name) for name in ("stage", "path")):
        raise _NoPointError("its model was trained before")
    scores = _final_scores(run, stage)
    perplexity = scores["perplexity"]
    value = perplexity.get("value")
    parameters = _number(stage.training["parameters"])
    tokens = _number(stage.summary["tokens"])
    if value is None or not 1 < value < math.exp(700):
        raise _NoPointError("it diverged: its held-out loss is not finite")
    data = _prepared(run, train)
    vocabulary = data.get("vocabulary")
    if isinstance(vocabulary, int) and value > vocabulary:
        raise _NoPointError("it diverged: its held-out loss is above that of a uniform guess")
    flops, share = stage.training.get("flops"), _reached(stage)
    if not flops or share is None:  # with a budget in time they are only estimated
        flops = FLOPS * parameters * tokens
        notes.append(f"{label}: FLOPs as 6·N·D, as its record does not tell them")
    else:  # those of the record are the whole budget's
        flops = _number(flops) * min(1, share)
    return Point(
        label,
        parameters,
        tokens,
        math.log(value),
        flops,
        body=float(stage.training.get("body_parameters") or math.nan),
        unique=_unique(data, tokens),
        steps=int(stage.summary["steps"]),
        stderr=_or_nan(perplexity.get("stderr")) / value,
        bits_per_byte=_or_nan(scores.get("bits_per_byte", {}).get("value")),
        seed=(run.spec.get("seed"), train.get("repetition", 0)),
        tokenizer=_tokenizer(run.path / stage.name),
        held_out=str(perplexity.get("fingerprint") or ""),
    )


def _check_finished(stage: StageHistory) -> None:
    """Raises _NoPointError unless the stage has trained to the end of its budget."""
    if stage.status != "done":
        why = {
            "running": "it is not finished: it is running, or was killed",
            "stopped": "it is not finished: it was stopped",
            "failed": "it is not finished: it failed",
        }
        step = f", at step {stage.steps.last:,}" if stage.steps.last else ""
        raise _NoPointError(why.get(stage.status, "it is not finished") + step)
    budget, share = Amount.parse(stage.summary["budget"]), _reached(stage)
    if budget.unit in _COUNTED and share is not None and share < 0.99:
        reached = stage.summary[budget.unit]
        raise _NoPointError(f"it ended at {reached:,} of {budget.value:,.0f} {budget.unit}")
    if budget.unit not in _COUNTED and ended_early(stage):
        raise _NoPointError(f"it ended early, at step {stage.summary['steps']:,}")


def ended_early(stage: StageHistory) -> bool:
    """Whether a callback ended the training before its budget."""
    last = stage.steps.last
    return any(e["event"] == "ended_early" and e.get("step") == last for e in stage.events)


def _reached(stage: StageHistory) -> float | None:
    """The share of its budget that a finished training reached; None for a budget in time."""
    budget = Amount.parse(stage.summary["budget"])
    if budget.unit in _COUNTED:
        return float(stage.summary[budget.unit]) / budget.value
    return None if budget.unit == "seconds" else 1.0


def _final_scores(run: RunHistory, stage: StageHistory) -> Mapping[str, Mapping[str, Any]]:
    """The last scores by metric of the evaluator of perplexity, of this stage or of a later evaluation
    of its model. Raises _NoPointError without any."""
    own = [s for s in stage.scores if s["step"] == stage.summary["steps"]]
    others = [
        s
        for other in run.stages.values()
        if other is not stage
        for s in other.scores
        if s.get("model") == stage.name and s.get("step") in (None, stage.summary["steps"])
    ]
    for scores in (own, others, _recorded(stage)):
        found = {s["metric"]: s for s in scores if s.get("evaluator", _EVALUATOR) == _EVALUATOR}
        if "perplexity" in found:
            return found
    raise _NoPointError("its final model has no held-out loss (evaluate: [{type: perplexity}])")


def _recorded(stage: StageHistory) -> Sequence[Mapping[str, Any]]:
    """The scores in the stage's record, which do not name their evaluator."""
    return [s for s in stage.summary.get("scores", ()) if s.get("model") == stage.name]


def _prepared(run: RunHistory, train: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data card of the prepare stage that a train stage reads; empty if there is none."""
    data = train.get("data")
    name = data.get("stage") if isinstance(data, dict) else data
    if not isinstance(name, str) or name not in run.stages:
        return {}
    try:
        card = read_json(run.path / name / "card.json")
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _unique(card: Mapping[str, Any], tokens: float) -> float:
    """The different tokens among so many of a mixture; NaN if unknown. A source gives its share, which
    is repeated once it is through."""
    sources = {s["source"]: _number(s["tokens"]) for s in card.get("sources", ())}
    if not sources:
        return math.nan
    weights = {m["source"]: _number(m["weight"]) for m in card.get("mixture", ())}
    weights = weights if weights.keys() == sources.keys() else sources
    whole = sum(weights.values())
    return sum(min(sources[name], tokens * weights[name] / whole) for name in sources)


def _tokenizer(stage: Path) -> str:
    """The checksum of the tokenizer that a stage's model was saved with; empty if unknown."""
    try:
        return str(read_json(stage / "final" / "manifest.json")["files"]["tokenizer.json"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _part(whole: object, name: str) -> Mapping[str, Any]:
    found = whole.get(name) if isinstance(whole, dict) else None
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{value!r} is not a positive number")
    return number


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)
