"""The charts of the page as Vega-Lite specs without data, which the page's script fills in; colours are
those of the page's style sheet, so that they follow its theme."""

from __future__ import annotations

from functools import cache
from typing import Any

import altair as alt
import vl_convert

_COLOURS = 10
"""Colours that the style sheet has; of more runs, each has its own hue."""
_HEIGHT = 190
_GOLDEN = 137.508
"""Degrees between the hues of successive runs: no two of them are close."""


def colours(runs: int) -> list[str]:
    """The colour of each run."""
    if runs <= _COLOURS:
        return [f"var(--run-{place})" for place in range(runs)]
    return [f"hsl({place * _GOLDEN % 360:.0f} 60% 50%)" for place in range(runs)]


def templates(runs: int) -> dict[str, Any]:
    """The specs of a chart of steps, ``curve``, and of a chart of scores, ``score``: their data set
    ``points`` has ``run``, ``step``, ``value``, ``low``, ``high``, and ``alone`` where both neighbours
    have no value; ``marks`` has ``run``, ``step``
    and ``kind``."""
    return {"curve": _spec(_curve(runs)), "score": _spec(_score(runs))}


@cache
def script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, whose ``drawChart`` is ``vegaEmbed``."""
    found: str = vl_convert.javascript_bundle("window.drawChart = vegaEmbed;")
    return found.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _x(title: str) -> Any:
    axis = alt.Axis(format="~s", tickCount=6, tickMinStep=1, grid=False)
    return alt.X("step:Q", title=title, axis=axis, scale=alt.Scale(zero=False, nice=False))


def _colour(runs: int) -> Any:
    return alt.Color("run:N", scale=_hues(runs), legend=None)


def _hues(runs: int) -> Any:
    return alt.Scale(domain=list(range(runs)), range=colours(runs))


def _y(field: str) -> Any:
    return alt.Y(f"{field}:Q", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))


def _curve(runs: int) -> Any:
    points = alt.Chart(alt.NamedData("points")).encode(x=_x("step"), color=_colour(runs))
    # Its outline shows a bucket's extremes where the bucket is narrower than a pixel.
    outline = alt.Stroke("run:N", scale=_hues(runs), legend=None)
    band = points.mark_area(fillOpacity=0.2, strokeOpacity=0.45, strokeWidth=0.7).encode(
        y=_y("low"), y2="high:Q", stroke=outline
    )
    line = points.mark_line(strokeWidth=1.6, strokeJoin="round").encode(y=_y("value"))
    alone = points.transform_filter("datum.alone").mark_point(filled=True, size=22, opacity=1)
    marks = alt.Chart(alt.NamedData("marks")).encode(x="step:Q", color=_colour(runs))
    rolled = marks.transform_filter("datum.kind == 'rolled back'").mark_rule(strokeDash=[3, 3])
    lost = _lost(marks)
    skipped = marks.transform_filter("datum.kind == 'skipped'").mark_point(
        shape="triangle-up", size=30, filled=True, opacity=0.9
    )
    return alt.layer(
        band,
        line,
        alone.encode(y=_y("value")),
        rolled,
        lost,
        skipped.encode(y=alt.value(_HEIGHT - 4)),
    )


def _score(runs: int) -> Any:
    points = alt.Chart(alt.NamedData("points")).encode(x=_x("step"), color=_colour(runs))
    line = points.mark_line(strokeWidth=1.2, opacity=0.6).encode(y=_y("value"))
    interval = points.mark_rule(strokeWidth=1.6).encode(y=_y("low"), y2="high:Q")
    point = points.mark_point(filled=True, size=36, opacity=1).encode(y=_y("value"))
    marks = alt.Chart(alt.NamedData("marks")).encode(x="step:Q", color=_colour(runs))
    return alt.layer(line, interval, point, _lost(marks))


def _lost(marks: Any) -> Any:
    return marks.transform_filter("datum.kind == 'not finite'").mark_rule(
        strokeDash=[1, 3], strokeWidth=2
    )


def _spec(chart: Any) -> dict[str, Any]:
    themed = chart.properties(width="container", height=_HEIGHT).configure(
        # Descriptions would put titles, which may be any text, into expressions; the page has its own.
        aria=False,
        background="transparent",
        font="system-ui, sans-serif",
        padding={"left": 2, "right": 8, "top": 6, "bottom": 2},
    )
    faint = {"domainColor": "var(--line)", "tickColor": "var(--line)", "gridColor": "var(--grid)"}
    axis = {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "titleFontWeight": "normal"}
    themed = themed.configure_axis(**faint, **axis, labelFontSize=11, titleFontSize=11)
    drawn: dict[str, Any] = themed.configure_view(stroke=None).to_dict()
    return drawn
