"""Scores of checkpoints from the logs of runs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import RunHistory, SpecError, read_run
from engine_scaling.emergence.points import REPEATED, Point, Scores, together
from engine_scaling.emergence.training_flops import UnknownFlopsError, flops_of
from engine_scaling.points.point import some
from engine_scaling.points.runs import runs_in

GOLD, CHANCE = "gold_logprob", "chance"
"""What multiple-choice evaluators log beside their scores."""
Column = tuple[str, str]
"""An evaluator and its metric."""


@dataclass(slots=True)
class Checkpoint:
    """A scored model of a ``run``, at a step or its end; ``scores``: the events of its scores."""

    run: RunHistory
    model: str
    step: int | None
    scores: dict[Column, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Run and stage, and the step if it is not the last."""
        return f"{self.run.name}/{self.model}" + ("" if self.step is None else f"@{self.step}")


def read_scores(
    folders: Iterable[Path], metric: str | None, model: str | None, chance: float | None
) -> Scores:
    """The scores of a metric, by default the one that most checkpoints have, of the runs in folders,
    or of ``model`` alone.

    Raises SpecError where there are none, and for scores of other items or tokenizers together.
    """
    found, damaged = [], {}
    for run in (read_run(path) for f in folders for path in runs_in(f) or [f]):
        damaged[run.path.resolve()] = run.damaged
        found += [one for one in _checkpoints(run) if model in (None, one.model)]
    column = _column(found, metric)
    lost: dict[str, list[str]] = defaultdict(list)
    points, prints, seen = [], defaultdict(list), set()
    for one in found:
        if column not in one.scores:
            continue
        try:
            if (same := repr((one.run.spec, one.scores[column]))) in seen:
                raise ValueError(REPEATED)
            seen.add(same)
            points.append(_point(one, column))
            prints[str(one.scores[column].get("fingerprint"))].append(one.name)
        except (UnknownFlopsError, ValueError, TypeError, KeyError, OverflowError) as error:
            lost[str(error)].append(one.name)
    label = "/".join(column)
    if len(prints) > 1:
        told = some([some(names) for names in prints.values()], "; ")
        raise SpecError(
            f"{label}: scores of other items or tokenizers cannot be compared: {told}",
            hint="name only runs that belong together; give evaluations of other items a `name`",
        )
    left_out = [f"{some(names)}: {why}" for why, names in lost.items()]
    if lines := sum(damaged.values()):
        left_out.append(f"{lines} damaged lines of logs")
    return together(label, points, chance, left_out)


def _checkpoints(run: RunHistory) -> Iterator[Checkpoint]:
    """The scored checkpoints. A score of an evaluate stage belongs to a training's last step."""
    found: dict[tuple[str, int | None], Checkpoint] = {}
    for stage in run.stages.values():
        for event in stage.scores:
            model, step = _trained(run, stage.name, str(event.get("model"))), event.get("step")
            trained = run.stages.get(model)
            if trained is not None and step == trained.steps.last:
                step = None
            if step is None or type(step) is int:
                one = found.setdefault((model, step), Checkpoint(run, model, step))
                one.scores[str(event.get("evaluator")), str(event["metric"])] = event
    yield from found.values()


def _trained(run: RunHistory, stage: str, label: str) -> str:
    """The stage that a model's label in scores stands for: its own name, or that of its `stage`."""
    models: Any = run.spec
    for key in ("stages", stage, "evaluate", "models"):
        models = models.get(key) if isinstance(models, dict) else None
    for one in models if isinstance(models, list) else ():
        if isinstance(one, dict) and one.get("name") == label and isinstance(one.get("stage"), str):
            return str(one["stage"])
    return label


def _column(found: Sequence[Checkpoint], metric: str | None) -> Column:
    """The column of a metric's name, ``METRIC`` or ``EVALUATOR/METRIC``."""
    counts = Counter(column for one in found for column in one.scores)
    if not counts:
        raise SpecError("no run has scores", hint="name runs whose models were evaluated")
    if metric is None:
        shares = [c for c in counts if c[1] not in (GOLD, CHANCE) and all(_shares(found, c))]
        if not shares:
            there = some(["/".join(column) for column in counts])
            raise SpecError(
                f"no score is a share of items: {there}",
                hint="name a metric by --metric: scores that are no shares are left out, and named",
            )
        return max(shares, key=counts.__getitem__)
    fitting = [c for c in counts if metric in (c[1], "/".join(c))]
    if len(fitting) == 1:
        return fitting[0]
    what = "is of several evaluators" if fitting else "no model has it"
    there = some(["/".join(column) for column in fitting or counts])
    raise SpecError(f"--metric {metric}: {what}", hint=f"name one of: {there}")


def _shares(found: Iterable[Checkpoint], column: Column) -> Iterator[bool]:
    """Of each score of a column, whether it may be a share of items that are right."""
    for one in found:
        event = one.scores.get(column)
        if event is not None and event.get("value") is not None:
            value = event["value"]
            known = isinstance(value, int | float) and 0 <= value <= 1
            yield known and bool(event.get("n")) and event.get("higher_is_better") is not False


def _point(one: Checkpoint, column: Column) -> Point:
    event = one.scores[column]
    value, items = event.get("value"), event.get("n")
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("its score is not finite")
    if not isinstance(items, int):
        raise ValueError("its number of items is not known")
    if event.get("higher_is_better") is False:
        raise ValueError("its score is no share of items that are right")
    return Point(
        one.name,
        flops_of(one.run, one.model, one.step),
        float(value),
        items,
        _beside(one, column, GOLD),
        _beside(one, column, CHANCE),
    )


def _beside(one: Checkpoint, column: Column, name: str) -> float | None:
    """What an evaluator logged beside a score of all items, or of those that no training data has."""
    evaluator, metric = column
    if "/" in metric:  # of a part, or of changed items
        return None
    event = one.scores.get((evaluator, name + ("_clean" if metric.endswith("_clean") else "")), {})
    value = event.get("value")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
