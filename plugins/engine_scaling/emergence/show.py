"""Prints where a score leaves chance, and draws it if a file is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine import SpecError, Terminal
from engine_scaling.emergence.analysis import Analysis, Interval, analyse, share_interval
from engine_scaling.emergence.from_csv import read_points
from engine_scaling.emergence.from_runs import read_scores
from engine_scaling.emergence.points import REPEATED, Scores, check_chance, together
from engine_scaling.emergence.priors import PRIORS
from engine_scaling.plots import check_plot
from engine_scaling.points.point import some

UNTOLD = "not to be told"


def show(
    places: Sequence[Path],
    metric: str | None,
    model: str | None,
    chance: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Prints what the scores of runs or of a CSV file tell. Raises SpecError for bad input."""
    if plot is not None:
        check_plot(plot, places)
    found = analyse(_scores(places, metric, model, chance))
    if plot is not None:
        from engine_scaling.emergence.plot import draw

        draw(found, plot)
    if as_json:
        print(json.dumps(record(found), indent=2))  # noqa: T201
        return
    console = Terminal()
    for part in _parts(found):
        if isinstance(part, str):
            console.print(part, markup=False)
        else:
            console.print(part)
    if plot is not None:
        console.print(f"drawn: {plot}", markup=False, soft_wrap=True)


def _scores(
    places: Sequence[Path], metric: str | None, model: str | None, chance: float | None
) -> Scores:
    if chance is not None:
        try:
            check_chance(chance)
        except ValueError as error:
            raise SpecError(f"--{error}") from error
    files = [place for place in places if not place.is_dir()]
    if not files:
        return read_scores(places, metric, model, chance)
    if len(places) > 1:
        raise SpecError(
            f"{files[-1]}: is no folder", hint="name folders of runs, or a single CSV file"
        )
    if metric is not None or model is not None:
        option = "--metric" if metric is not None else "--model"
        raise SpecError(f"{option} chooses among the scores of runs; {places[0]} is a file")
    points, repeated = read_points(places[0])
    left_out = [f"{some(repeated)}: {REPEATED}"] if repeated else []
    return together(places[0].name, points, chance, left_out)


def _parts(found: Analysis) -> list[str | Table]:
    scores = found.scores
    parts: list[str | Table] = [
        f"{scores.metric}: {len(scores.points)} scores, {scores.chance:.4g} by chance",
        _points(found),
        f"{found.above} of {len(scores.points)} are above chance (95 % intervals of their items).",
    ]
    parts += [f"left out: {why}" for why in scores.left_out]
    if found.curve.scatter > 1:
        parts.append(
            f"The scores scatter more than their items explain (p = {found.curve.misfit:.1g}): the "
            f"intervals allow for {found.curve.scatter:.2g} times the variance."
        )
    parts += _threshold(found)
    if found.trend is not None:
        law = found.trend
        parts.append(
            f"Log-probability of the right answer: its size falls as FLOPs^-{law.exponent:.3g} "
            f"[{law.low:.3g}, {law.high:.3g}], {law.scatter:.1%} around that."
        )
    if found.told or found.trend is not None:
        parts.append(_predictions(found))
    parts.append(_priors())
    return parts


def _points(found: Analysis) -> Table:
    table = Table(box=None)
    for name in ("model", "FLOPs", "score", "95 %", "items", "log-prob."):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    for point in found.scores.points:
        low, high = share_interval(point)
        table.add_row(
            escape(point.name),
            f"{point.flops:.3g}",
            f"{point.score:.4f}",
            f"{low:.3f}, {high:.3f}",
            f"{point.n:,}",
            "" if point.logprob is None else f"{point.logprob:.3f}",
        )
    return table


def _threshold(found: Analysis) -> list[str]:
    """The threshold, or that it is not to be told and why."""
    if found.threshold is None:
        return [f"threshold: {UNTOLD}: {found.why}"]
    curve, (low, high) = found.curve, (found.threshold.low, found.threshold.high)
    half = curve.chance + curve.rise / 2
    where = f"half way from chance to a ceiling of {curve.chance + curve.rise:.3f}, at {half:.3f}"
    if low is not None and high is not None:
        told = [f"threshold: {found.threshold.value:.3g} FLOPs [{low:.3g}, {high:.3g}], {where}"]
        if found.threshold.value > found.scores.points[-1].flops:
            told.append(
                "It is beyond the largest training: only that a score is at most 1 bounds it."
            )
        return told
    if low is not None:
        return [f"threshold: at least {low:.3g} FLOPs; the scores have hardly begun to rise"]
    return [f"threshold: at most {high:.3g} FLOPs; no score is low enough to say more"]


def _predictions(found: Analysis) -> Table:
    table = Table(box=None, title="Predicted, with 95 % intervals", title_justify="left")
    for name in ("FLOPs", "score", "log-probability", "score by it"):
        table.add_column(name, justify="right")
    for one in found.predictions:
        table.add_row(
            f"{one.flops:.3g} ({one.times}×)",
            *(_interval(figure) for figure in (one.score, one.logprob, one.two_steps)),
        )
    return table


def _interval(figure: Interval | None) -> str:
    if figure is None:
        return UNTOLD
    return f"{figure.value:.3f} [{figure.low:.2f}, {figure.high:.2f}]"


def _priors() -> Table:
    title = "Said of other models; nothing is predicted from it"
    table = Table(box=None, title=title, title_justify="left", style="dim")
    for name in ("ability", "said", "what the source says"):
        table.add_column(name, justify="left")
    for one in PRIORS:
        said = f"{one.said / 1e9:,.0f}B"
        table.add_row(one.ability, said, f"{one.finding} ({one.source})")
    return table


def record(found: Analysis) -> dict[str, Any]:
    """All figures, for machines; what is not to be told is null."""
    curve = found.curve
    shape = {
        "ceiling": curve.chance + curve.rise,
        "slope_per_decade": curve.slope,
        "misfit": curve.misfit,
        "scatter": curve.scatter,
    }
    whole = found.threshold is not None and None not in (found.threshold.low, found.threshold.high)
    law = found.trend
    return {
        "metric": found.scores.metric,
        "chance": found.scores.chance,
        "points": [{**asdict(p), "interval": share_interval(p)} for p in found.scores.points],
        "left_out": list(found.scores.left_out),
        "above_chance": found.above,
        "untold": found.why or None,
        # A threshold without both ends is no figure: the curve has its middle where it was stopped.
        "threshold": None
        if found.threshold is None
        else {**asdict(found.threshold), **({} if whole else {"value": None})},
        "curve": shape if found.told else None,
        "log_probability": law
        and {"exponent": law.exponent, "low": law.low, "high": law.high, "scatter": law.scatter},
        "predictions": [asdict(one) for one in found.predictions],
        "priors": [asdict(one) for one in PRIORS],
    }
