"""Plots scores over training steps or model sizes to a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine import RunError, SpecError, cleaned, score_interval
from engine_evals.files import written_whole
from engine_evals.leaderboard.entries import Column, Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Over = Literal["step", "parameters"]
"""The horizontal axis."""

Point = tuple[float, float, float]
"""Step or number of parameters, score, half of its 95 % interval."""


def draw(entries: Sequence[Entry], column: Column, by: Over, file: Path) -> None:
    """Draws a column of the leaderboard. Raises SpecError or RunError where it cannot."""
    kind = file.suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        raise SpecError(f"--plot {file}: cannot draw '{file.suffix}'", hint="name a .png or .svg")
    try:
        from matplotlib import (
            figure as figures,  # avoids pyplot's global state
            rc_context,
        )
    except ImportError as error:
        raise RunError(
            "a plot needs matplotlib", hint="pip install 'training-engine[evals]'"
        ) from error
    models = _over_steps(entries, column) if by == "step" else _over_sizes(entries, column)
    if not models:
        what = "at a known step" if by == "step" else "of a model of known size"
        raise RunError(
            f"{'/'.join(column)}: no score {what}", hint="choose another --by or --metric"
        )
    with (
        written_whole(file) as partial,
        rc_context(
            {"text.parse_math": False, "text.usetex": False}
        ),  # a $ in a name is a plain character
    ):
        figure = figures.Figure(figsize=(8, 5), dpi=150, layout="constrained")
        _lay_out(figure, models, column, by)
        figure.savefig(partial, format=kind)


def _lay_out(
    figure: Figure,
    models: Mapping[str, list[Point]],
    column: Column,
    by: Over,
) -> None:
    """Draws a line for each model, with axes and legend."""
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(models.items()):
        places, values, errors = zip(*points, strict=True)
        axes.errorbar(
            places,
            values,
            yerr=errors,
            label=cleaned(name),
            color=f"C{number % 10}",  # matplotlib's cycle; then the marker changes
            marker="osD^v"[number // 10 % 5],
            capsize=3,
        )
    axes.set_xlabel("training step" if by == "step" else "parameters")
    if by == "parameters":
        axes.set_xscale("log")
    axes.set_ylabel(cleaned(f"{column[0]}: {column[1].replace('_', ' ')} (bars: 95 %)"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize="small")


def _over_steps(entries: Sequence[Entry], column: Column) -> dict[str, list[Point]]:
    """The points of each model of each run, by step."""
    models: dict[str, list[Point]] = {}
    for entry in entries:
        if entry.step is not None:
            models.setdefault(entry.name, []).extend(_point(entry, entry.step, column))
    return {name: sorted(points) for name, points in sorted(models.items()) if points}


def _over_sizes(entries: Sequence[Entry], column: Column) -> dict[str, list[Point]]:
    """A point for each model of each run: its last score, at its size."""
    models: dict[str, list[Point]] = {}
    for entry in sorted(entries, key=lambda entry: entry.step or 0):
        if entry.parameters is not None:
            models[entry.name] = [*_point(entry, entry.parameters, column)] or models.get(
                entry.name, []
            )
    return {name: points for name, points in sorted(models.items()) if points}


def _point(entry: Entry, place: float, column: Column) -> Iterator[Point]:
    score = entry.scores.get(column)
    if score is not None and score.value is not None:
        _, high = score_interval({"value": score.value, "stderr": score.stderr})
        yield place, score.value, high - score.value
