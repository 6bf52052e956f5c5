"""Draws scores over training FLOPs with the curves that fit them, by Vega-Altair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import cleaned
from engine_scaling.emergence.analysis import TIMES, Analysis, share_interval
from engine_scaling.emergence.curve import Curve
from engine_scaling.emergence.likelihood import Array
from engine_scaling.emergence.points import Point
from engine_scaling.plots import save_plot

_FLOPS = "training FLOPs"
_Place = tuple[float, float, float, float]
"""x, y and the ends of y's interval."""
_PLACES = 120
"""Places at which a curve is drawn."""
_WIDTH, _HEIGHT = 480, 240
_COLOUR = "#4c78a8"


def draw(found: Analysis, file: Path) -> None:
    """Draws to a file that was checked. Raises RunError where it cannot."""
    import altair as alt

    chart = alt.vconcat(*(_drawn(alt, one) for one in _panels(found)))
    save_plot(chart, file, found.scores.metric)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Points ``(x, y, low, high)`` over a line ``(x, y, low, high)`` with its band, and rules across at
    some ``x`` and ``y``."""

    title: str
    metric: str
    points: Sequence[_Place]
    line: Sequence[_Place] = ()
    x: Sequence[float] = ()
    y: Sequence[float] = ()


def _panels(found: Analysis) -> Iterator[_Panel]:
    """Scores over FLOPs; below them, where they are known, log-probabilities over FLOPs and scores
    over log-probabilities."""
    points, chance = found.scores.points, found.scores.chance
    metric = cleaned(found.scores.metric)
    last = math.log10(points[-1].flops * max(TIMES))
    places = np.linspace(math.log10(points[0].flops), last, _PLACES)
    flops = [point.flops for point in points]
    whole = found.threshold is not None and None not in (found.threshold.low, found.threshold.high)
    yield _Panel(
        _FLOPS,
        metric,
        _scores(flops, points),
        _band(found.curve, places, 10**places) if found.told else (),
        [found.threshold.value] if found.threshold and whole else (),
        [chance],
    )
    known = [point for point in points if point.logprob is not None]
    logprobs = [point.logprob or 0.0 for point in known]
    if found.trend is not None:
        line = [(float(10**x), *found.trend.logprob(10**x)) for x in places]
        dots = [(p.flops, y, y, y) for p, y in zip(known, logprobs, strict=True)]
        yield _Panel(_FLOPS, "log-probability", dots, line)
    if found.by_logprob is not None:
        further = [one.logprob.value for one in found.predictions if one.logprob is not None]
        places = np.linspace(min(logprobs), max(*logprobs, *further), _PLACES)
        line = _band(found.by_logprob, places, places)
        yield _Panel("log-probability", metric, _scores(logprobs, known), line, y=[chance])


def _scores(x: Sequence[float], points: Sequence[Point]) -> list[_Place]:
    """Scores with the intervals of their items."""
    return [(at, p.score, *share_interval(p)) for at, p in zip(x, points, strict=True)]


def _band(curve: Curve, places: Array, shown: Array) -> list[_Place]:
    low, high = curve.band(places)
    columns = (shown, curve.score(places), low, high)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _drawn(alt: Any, panel: _Panel) -> Any:
    def chart(places: Sequence[_Place]) -> Any:
        names = ("x", "y", "low", "high")
        values = [dict(zip(names, place, strict=True)) for place in places]
        return alt.Chart(alt.Data(values=values), width=_WIDTH, height=_HEIGHT)

    def rule(axis: str, at: float) -> Any:
        base = alt.Chart(alt.Data(values=[{axis: at}]))
        return base.mark_rule(strokeDash=[4, 4]).encode(**{axis: f"{axis}:Q"})

    kind = "log" if panel.title == _FLOPS else "linear"
    x = alt.X("x:Q", title=panel.title, scale=alt.Scale(type=kind, nice=False, zero=False))
    y = alt.Y("y:Q", title=panel.metric, scale=alt.Scale(zero=False))
    line, dots = chart(panel.line), chart(panel.points)
    return alt.layer(
        line.mark_area(opacity=0.2, color=_COLOUR).encode(x=x, y="low:Q", y2="high:Q"),
        line.mark_line(color=_COLOUR).encode(x=x, y=y),
        dots.mark_rule(color=_COLOUR).encode(x=x, y="low:Q", y2="high:Q"),
        dots.mark_circle(size=50, color=_COLOUR).encode(x=x, y=y),
        *(rule("x", at) for at in panel.x),
        *(rule("y", at) for at in panel.y),
    )
