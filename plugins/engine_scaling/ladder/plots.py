"""Plots of a ladder: losses over compute with what was predicted, and losses over sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from engine_scaling.ladder.predictions import by_budget, frontier_of, line_through
from engine_scaling.ladder.results import Climbed
from engine_scaling.plots import logarithmic, save_plot

_WIDTH, _HEIGHT = 480, 300
_LAW, _LINE = "law, with its interval", "line through the frontier"


def save_plots(climbed: Climbed, folder: Path) -> list[Path]:
    """Writes ``compute.svg`` and ``sizes.svg``, and returns their paths."""
    made = []
    for name, chart in (("compute", _compute(climbed)), ("sizes", _sizes(climbed))):
        file = folder / f"{name}.svg"
        save_plot(chart, file, name)
        made.append(file)
    return made


def _compute(climbed: Climbed) -> alt.LayerChart | alt.FacetChart:
    """Losses over FLOPs: fitted runs, held-out ones, the law's predictions and the frontier's line."""
    points = climbed.points.points
    frontier = frontier_of(points)
    runs: list[dict[str, Any]] = [
        {"flops": p.flops, "loss": p.loss, "run": "fitted"} for p in points
    ]
    runs += [
        {"flops": r.prediction.flops, "loss": r.measured, "run": "held out"}
        for r in climbed.results
    ]
    largest = max(run["flops"] for run in runs)
    grid = np.geomspace(frontier[0].flops, largest, 50)
    line = [{"flops": float(c), "loss": line_through(frontier, c), "by": _LINE} for c in grid]
    intervals = [
        {"flops": p.flops, "low": p.low, "high": p.high, "loss": p.loss, "by": _LAW}
        for p in (result.prediction for result in climbed.results)
    ]
    layers = [
        _chart(line)
        .mark_line(strokeDash=[4, 3])
        .encode(logarithmic("flops:Q", "FLOPs of training"), _loss(), color=_by()),
        _chart(runs)
        .mark_point(filled=True, size=40)
        .encode(logarithmic("flops:Q", "FLOPs of training"), _loss(), shape="run:N"),
    ]
    if intervals:
        ends = alt.Y("low:Q", title="held-out loss in nats a token"), alt.Y2("high:Q")
        layers[1:1] = [
            _chart(intervals)
            .mark_rule(strokeWidth=2)
            .encode(logarithmic("flops:Q", "FLOPs of training"), *ends, color=_by()),
            _chart(intervals)
            .mark_tick(thickness=2)
            .encode(logarithmic("flops:Q", "FLOPs of training"), _loss(), color=_by()),
        ]
    return alt.layer(*layers).properties(width=_WIDTH, height=_HEIGHT)


def _sizes(climbed: Climbed) -> alt.LayerChart | alt.FacetChart:
    """Losses over parameters, a curve for each budget."""
    groups = [(group[0].flops, group) for group in by_budget(climbed.points.points)]
    rows = [
        {"parameters": p.parameters, "loss": p.loss, "budget": f"{budget:.1e} FLOPs"}
        for budget, group in groups
        for p in group
    ]
    order = [f"{budget:.1e} FLOPs" for budget, _ in groups]
    x = logarithmic("parameters:Q", "parameters")
    color = alt.Color("budget:N", sort=order, title="budget")
    base = _chart(rows).encode(x, _loss(), color=color)
    both = alt.layer(base.mark_line(), base.mark_point(filled=True, size=40))
    return both.properties(width=_WIDTH, height=_HEIGHT)


def _chart(rows: Sequence[dict[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)))


def _loss() -> alt.Y:
    return alt.Y("loss:Q", scale=alt.Scale(zero=False), title="held-out loss in nats a token")


def _by() -> alt.Color:
    return alt.Color("by:N", title="predicted by")
