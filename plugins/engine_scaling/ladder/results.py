"""What a ladder has shown, as data and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine_scaling.ladder.predictions import Attempt, Result
from engine_scaling.laws.believed import Belief
from engine_scaling.points.point import Points
from engine_scaling.runner import Outcome

AIMED_WIDTH = 0.05
"""Half-width of an interval, relative, that a prediction should not exceed."""


@dataclass(frozen=True, slots=True)
class Climbed:
    """A ladder that was climbed: the law, the points that it was fitted to, all attempts, and the
    last one's results; ``skipped`` and ``failed``: runs that are no points, with the reason; ``edges``:
    runs that are best of their budget at its edge, with the reason why no further size was trained."""

    belief: Belief
    points: Points
    attempts: Sequence[Attempt]
    results: Sequence[Result]
    skipped: Mapping[str, str]
    failed: Mapping[str, str]
    edges: Mapping[str, str]

    @property
    def remarks(self) -> Mapping[str, Mapping[str, str]]:
        """What is to be known of single runs, by title and name."""
        return {"not made": self.skipped, "failed": self.failed, "best at the edge": self.edges}

    def coverage(self) -> float:
        """The share of the held-out losses that are inside their intervals; NaN without any."""
        if not self.results:
            return math.nan
        return sum(result.inside for result in self.results) / len(self.results)

    def width(self) -> float:
        """The mean half-width of the intervals, relative; NaN without any."""
        if not self.results:
            return math.nan
        return sum(result.half_width for result in self.results) / len(self.results)

    def data(self) -> dict[str, Any]:
        """All of it as plain data; None stands for what is not known."""
        return {
            "law": asdict(self.belief.law.best),
            "variant": self.belief.variants[0].name,
            "points": [_plain(asdict(point)) for point in self.points.points],
            "attempts": [asdict(attempt) for attempt in self.attempts],
            "results": [asdict(result) for result in self.results],
            "coverage": _number(self.coverage()),
            "mean_half_width": _number(self.width()),
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "edges": dict(self.edges),
        }


def loss_of(outcome: Outcome) -> float:
    """The last held-out loss of a run, in nats per token; NaN without any."""
    values: list[float] = [
        score["value"] for score in outcome.stage.scores if score["metric"] == "perplexity"
    ]
    return math.log(values[-1]) if values and values[-1] > 0 else math.nan


def markdown(climbed: Climbed) -> str:
    """The tables of a ladder: the fitted runs, and the held-out ones with what was predicted."""
    lines = ["| run | parameters | tokens | steps | FLOPs | loss |", "|---|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {p.name} | {p.parameters:,.0f} | {p.tokens:,.0f} | {p.steps:,} | {p.flops:.2e} "
        f"| {p.loss:.4f} |"
        for p in sorted(climbed.points.points, key=lambda p: (p.flops, p.parameters))
    ]
    for title, runs in climbed.remarks.items():
        lines += ["", f"{title.capitalize()}:", ""] if runs else []
        lines += [f"- {name}: {why}" for name, why in runs.items()]
    if climbed.results:
        attempt = climbed.attempts[-1]
        lines += [
            "",
            f"Predicted on {attempt.date} (attempt {attempt.number}) by the law with SHA-256 "
            f"{attempt.law[:12]}…, before these runs were started:",
            "",
            "| budget | parameters | steps | predicted | interval | measured | law | line | last rung "
            "|",
            "|---|--:|--:|--:|---|--:|--:|--:|--:|",
            *map(_row, climbed.results),
            "",
            coverage_line(climbed),
        ]
    return "\n".join(lines) + "\n"


def coverage_line(climbed: Climbed) -> str:
    """How many held-out losses are inside, and how wide the intervals are."""
    inside = sum(result.inside for result in climbed.results)
    return (
        f"{inside} of {len(climbed.results)} measured losses are inside their intervals of 95 %; these "
        f"are ± {climbed.width():.1%} wide on average."
    )


def _row(result: Result) -> str:
    run = result.prediction
    held = f"[{run.low:.4f}, {run.high:.4f}]" + ("" if result.inside else ", missed")
    return (
        f"| {label(run.held_out)} | {run.parameters:,} | {run.steps:,} | {run.loss:.4f} | {held} "
        f"| {result.measured:.4f} | {result.error:+.2%} | {result.line_error:+.2%} "
        f"| {result.last_rung_error:+.2%} |"
    )


def label(held_out: str) -> str:
    """``10x4`` as ``10×, 4 times too wide``."""
    factor, _, wider = held_out.partition("x")
    return f"{factor}×" + (f", {wider} times too wide" if wider else "")


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _number(value) if isinstance(value, float) else value for name, value in data.items()
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
