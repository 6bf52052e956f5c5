"""Prints the leaderboard, and plots it if a file is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import RunError, SpecError, Terminal
from engine_evals.leaderboard.entries import Column, Entry, columns_of, read_entries
from engine_evals.leaderboard.tables import NOTE, tables

if TYPE_CHECKING:
    from engine_evals.leaderboard.plot import Over


def show(
    folder: Path,
    metric: str | None,
    plot: Path | None,
    by: Over,
    as_json: bool,
) -> None:
    """Prints the leaderboard and draws it.

    Raises RunError where there is no score or no plot can be made, SpecError for a metric that no
    model has.
    """
    entries, damaged = read_entries(folder)
    if not entries:
        raise RunError(f"{folder}: no run in it has scores", hint="name the folder of the runs")
    column = _column(entries, metric)
    entries.sort(key=lambda entry: _rank(entry, column))
    if plot is not None:
        from engine_evals.leaderboard.plot import draw

        draw(entries, column, by, plot)
    if as_json:
        print(json.dumps([_record(entry) for entry in entries], indent=2))  # noqa: T201
        return
    console = Terminal()
    for table in tables(entries, column, console.width):
        console.print(table)
    console.print(NOTE, markup=False)
    if damaged:
        console.print(f"left out: {damaged} damaged lines", style="yellow")
    if plot is not None:
        console.print(f"drawn: {plot}", markup=False, soft_wrap=True)


def _column(entries: Sequence[Entry], metric: str | None) -> Column:
    """The column with the metric's name; by default the one that most entries have."""
    if metric is None:
        return Counter(column for entry in entries for column in entry.scores).most_common(1)[0][0]
    columns = columns_of(entries)
    found = [c for c in columns if metric in (c[1], "/".join(c))]
    if len(found) == 1:
        return found[0]
    what = "is of several evaluators" if found else "no model has it"
    there = ", ".join("/".join(column) for column in found or columns)
    raise SpecError(f"--metric {metric}: {what}", hint=f"name one of: {there}")


def _rank(entry: Entry, column: Column) -> tuple[bool, float]:
    """Sort key: the best entries first, those without the score last."""
    score = entry.scores.get(column)
    if score is None or score.value is None:
        return True, 0.0
    return False, -score.value if score.higher_is_better else score.value


def _record(entry: Entry) -> dict[str, Any]:
    scores = [
        {"evaluator": evaluator, "metric": metric, **asdict(score)}
        for (evaluator, metric), score in entry.scores.items()
    ]
    return {
        "run": entry.run,
        "model": entry.model,
        "step": entry.step,
        "parameters": entry.parameters,
        "scores": scores,
    }
