"""Draws the runs and the believed law: loss over FLOPs, and the loss of each budget over size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine import cleaned
from engine_scaling.fitting.study import AHEAD, Study
from engine_scaling.laws.form import predicted
from engine_scaling.plots import logarithmic, save_plot

_WIDTH, _HEIGHT = 520, 320
_LINE = 60
"""Points of a line."""


def draw(study: Study, file: Path) -> None:
    """Draws a study to a file that was checked. Raises RunError if it cannot be written."""
    import altair

    save_plot(_chart(altair, study), file, "Scaling laws")


def _chart(alt: Any, study: Study) -> Any:
    """Both charts, one below the other."""
    return alt.vconcat(_over_compute(alt, study), _over_size(alt, study)).configure_axis(
        gridOpacity=0.4
    )


def _over_compute(alt: Any, study: Study) -> Any:
    """A layered chart: the runs' losses over FLOPs, with the prediction for the best model."""
    belief = study.belief
    low, high = belief.law.flops
    rows = []
    for flops in np.geomspace(low, high * max(AHEAD), _LINE):
        _, _, loss = belief.optimum(float(flops))
        rows.append({"flops": flops, "loss": loss.value, "low": loss.low, "high": loss.high})
    x = logarithmic("flops:Q", "FLOPs")
    y = alt.Y("loss:Q", title=study.points.metric, scale=alt.Scale(type="log", nice=False))
    line = alt.Chart(alt.Data(values=rows))
    runs = alt.Chart(alt.Data(values=_runs(study)))
    return alt.layer(
        line.mark_area(opacity=0.25).encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q"),
        line.mark_line().encode(x=x, y=y),
        runs.mark_point(color="black").encode(x=x, y=y, tooltip=["name:N", "loss:Q"]),
    ).properties(
        width=_WIDTH, height=_HEIGHT, title="Runs, and the best model by the believed law (95 %)"
    )


def _over_size(alt: Any, study: Study) -> Any:
    """A layered chart: the loss of each budget over parameters, with the believed law's curve."""
    belief = study.belief
    table, family, way = belief.table, belief.family, belief.chosen.way
    lines = []
    for budget in np.unique(table.budget):
        own = table.budget == budget
        flops = float(np.exp(np.log(table.flops[own]).mean()))
        reach = np.log(table.all[own])
        sizes = np.exp(np.linspace(reach.min() - 0.5, reach.max() + 0.5, _LINE))
        counted = sizes if way.counted == "all" else family.body_of(sizes)
        tokens = family.tokens(sizes, flops)
        losses = np.exp(predicted(belief.chosen.constants, np.log(counted), np.log(tokens)))
        lines += [
            {"parameters": size, "loss": loss, "budget": f"{flops:.2g}"}
            for size, loss in zip(sizes, losses, strict=True)
        ]
    x = logarithmic("parameters:Q", "parameters")
    y = alt.Y("loss:Q", title=study.points.metric, scale=alt.Scale(zero=False))
    labels = list(dict.fromkeys(line["budget"] for line in lines))
    color = alt.Color("budget:O", title="FLOPs", sort=labels, scale=alt.Scale(scheme="viridis"))
    return alt.layer(
        alt.Chart(alt.Data(values=lines)).mark_line().encode(x=x, y=y, color=color),
        alt.Chart(alt.Data(values=_runs(study)))
        .mark_point(color="black")
        .encode(x=x, y=y, tooltip=["name:N", "loss:Q"]),
    ).properties(width=_WIDTH, height=_HEIGHT, title="Loss of each budget over model size")


def _runs(study: Study) -> list[dict[str, object]]:
    return [
        {
            "name": cleaned(p.name),
            "flops": p.flops,
            "parameters": p.parameters,
            "loss": p.loss,
        }
        for p in study.points.points
    ]
