"""Scores with their 95 % intervals, at each checkpoint and side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import RunHistory, score_interval, score_text
from engine_report.page.matrix import NOTHING, Matrix, number_of

_NOTES = ("± and [low, high] are intervals of 95 %.",)


@dataclass(frozen=True, slots=True)
class Scored:
    """A score: ``low`` and ``high`` bound its 95 % interval, and are None like ``value`` if that is not
    finite; ``step`` is None outside of training."""

    stage: str
    model: str
    step: int | None
    evaluator: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    text: str

    @property
    def name(self) -> str:
        """What was scored, by which metric."""
        return self.metric if self.metric == self.evaluator else f"{self.evaluator}: {self.metric}"

    @property
    def place(self) -> str:
        """Where it was scored: the model, and before it the stage if that has another name."""
        return self.model if self.stage == self.model else f"{self.stage}, {self.model}"


def scores_of(run: RunHistory) -> list[Scored]:
    """The scores of all stages of a run in order, without those whose value is no number."""
    return [
        one
        for name, stage in run.stages.items()
        for event in stage.scores
        if (one := _scored(name, event)) is not None
    ]


def _scored(stage: str, event: Mapping[str, Any]) -> Scored | None:
    given = event.get("value")
    value = number_of(given)
    # A log has null for a value that is not finite.
    if value is None and not (given is None or isinstance(given, float)):
        return None
    known: dict[str, Any] = {"value": value, "stderr": abs(number_of(event.get("stderr")) or 0)}
    pair = event.get("interval")
    if isinstance(pair, list) and len(pair) == 2:
        low, high = map(number_of, pair)
        if low is not None and high is not None:
            known["interval"] = (low, high)
    low, high = (None, None) if value is None else score_interval(known)
    step, n = number_of(event.get("step")), number_of(event.get("n"))
    return Scored(
        stage=stage,
        model=str(event.get("model", stage)),
        step=None if step is None else int(step),
        evaluator=str(event.get("evaluator", "")),
        metric=str(event["metric"]),
        value=value,
        low=low,
        high=high,
        n=None if n is None else int(n),
        text=score_text(known),
    )


def last_of(scores: Sequence[Scored]) -> dict[tuple[str, str], Scored]:
    """The last score by place and name."""
    return {(one.place, one.name): one for one in scores}


def last_scores(labels: Sequence[str], runs: Sequence[Sequence[Scored]]) -> Matrix:
    """The last score of each model by each metric, a column for each run."""
    found: dict[tuple[str, str], dict[int, Scored]] = {}
    for number, scores in enumerate(runs):
        for key, one in last_of(scores).items():
            found.setdefault(key, {})[number] = one
    several = len({where for where, _ in found}) > 1
    rows = []
    for (where, name), own in found.items():
        cells = [own[n].text if n in own else NOTHING for n in range(len(runs))]
        rows.append((f"{where}: {name}" if several else name, [*cells, _items(own)]))
    return Matrix("", (*labels, "items"), rows, notes=_NOTES)


def _items(own: Mapping[int, Scored]) -> str:
    counts = sorted({one.n for one in own.values() if one.n is not None})
    return (
        "" if not counts else " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
    )


def over_steps(scores: Sequence[Sequence[Scored]]) -> list[tuple[str, str, str]]:
    """What has finite scores at two steps or more of a run: stage, evaluator and metric."""
    steps: dict[tuple[int, str, str, str], set[int]] = {}
    for place, own in enumerate(scores):
        for one in own:
            if one.step is not None and one.value is not None:
                key = (place, one.stage, one.evaluator, one.metric)
                steps.setdefault(key, set()).add(one.step)
    return list(dict.fromkeys(key[1:] for key, found in steps.items() if len(found) > 1))


def at_checkpoints(scores: Sequence[Scored]) -> Iterator[tuple[str, Matrix]]:
    """For each stage of a run that was scored while it was trained, a row for each step."""
    for stage in dict.fromkeys(one.stage for one in scores if one.step is not None):
        own = [one for one in scores if one.stage == stage and one.step is not None]
        names = list(dict.fromkeys(one.name for one in own))
        at = {(one.step, one.name): one.text for one in own}
        steps = sorted({one.step for one in own if one.step is not None})
        rows = [(f"{step:,}", [at.get((step, name), NOTHING) for name in names]) for step in steps]
        yield stage, Matrix("step", names, rows, notes=_NOTES)
