"""Scores over training steps or model sizes, drawn to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine import RunError, SpecError

if TYPE_CHECKING:
    from engine_evals.leaderboard import Column, Row

Point = tuple[float, float, float]
"""Where it stands, its score, and the standard error."""


def draw(
    rows: Sequence[Row], column: Column, by: Literal["step", "parameters"], file: Path
) -> None:
    """Draws a column of the leaderboard. Raises SpecError or RunError where that cannot be."""
    kind = file.suffix.removeprefix(".")
    if kind not in ("png", "svg"):
        raise SpecError(f"--plot {file}: cannot draw '{file.suffix}'", mend="name a .png or .svg")
    try:
        from matplotlib.figure import Figure  # pyplot's state stays out of this
    except ImportError as error:
        raise RunError(
            "a plot needs matplotlib", mend="pip install 'training-engine[evals]'"
        ) from error
    models = _over_steps(rows, column) if by == "step" else _over_sizes(rows, column)
    if not models:
        what = "at a known step" if by == "step" else "of a model of known size"
        raise RunError(
            f"{'/'.join(column)}: no score {what}", mend="choose another --by or --metric"
        )
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(models.items()):
        places, values, errors = zip(*points, strict=True)
        axes.errorbar(
            places,
            values,
            yerr=errors,
            label=name,
            color=f"C{number % 10}",  # matplotlib's cycle; after it, another marker
            marker="osD^v"[number // 10 % 5],
            capsize=3,
        )
    axes.set_xlabel("training step" if by == "step" else "parameters")
    if by == "parameters":
        axes.set_xscale("log")
    axes.set_ylabel(f"{column[0]}: {column[1].replace('_', ' ')}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize="small")
    partial = file.with_name(f".partial-{file.name}")
    try:
        figure.savefig(partial, format=kind)
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error


def _over_steps(rows: Sequence[Row], column: Column) -> dict[str, list[Point]]:
    """A line for each model of each run."""
    models: dict[str, list[Point]] = {}
    for row in rows:
        if row.step is not None:
            models.setdefault(row.name, []).extend(_point(row, row.step, column))
    return {name: sorted(points) for name, points in sorted(models.items()) if points}


def _over_sizes(rows: Sequence[Row], column: Column) -> dict[str, list[Point]]:
    """A point for each model of each run: its last score."""
    models: dict[str, list[Point]] = {}
    for row in sorted(rows, key=lambda row: row.step or 0):
        if row.parameters is not None:
            models[row.name] = [*_point(row, row.parameters, column)] or models.get(row.name, [])
    return {name: points for name, points in sorted(models.items()) if points}


def _point(row: Row, place: float, column: Column) -> Iterator[Point]:
    figure = row.scores.get(column)
    if figure is not None and figure.value is not None:
        yield place, figure.value, figure.stderr or 0.0
