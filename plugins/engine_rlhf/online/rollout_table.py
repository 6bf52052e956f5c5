"""Prints the rollouts of one round as a table (``engine rlhf rollouts``)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from engine import (
    RunError,
    SpecError,
    Terminal,
    cleaned,
    json_of,
    read_regular,
)

Row = Mapping[str, Any]
_FOLDER = "rollouts"
_SHOWN = 10
_FIGURES = 30
"""Greatest width of the figures, in characters."""


def show(
    stage: Path, number: int | None, limit: int | None, sort: str | None, as_json: bool
) -> None:
    """Prints the rollouts of one round of a stage, by default the last.

    Raises SpecError where the stage, round or column does not exist, RunError for a damaged file.
    """
    rounds = _rounds(stage)
    number = max(rounds) if number is None else number
    if number not in rounds:
        raise SpecError(
            f"{stage}: no round {number}", hint=f"it has {min(rounds)} to {max(rounds)}"
        )
    rows = _sorted(_read(rounds[number]), sort)
    if as_json:
        for row in rows[:limit]:
            print(json.dumps(row))  # noqa: T201 - a command's output
        return
    shown = rows[: limit or _SHOWN]
    order = f", by {sort.removeprefix('-')}" if sort else ""
    console = Terminal()
    title = f"round {number} of {max(rounds)}: {len(shown)} of {len(rows)} answers{order}"
    console.print(title, markup=False)
    console.print(_table(shown, _means(rows)))


def _rounds(stage: Path) -> dict[int, Path]:
    """The files of all rounds, by number. Raises SpecError where there are none."""
    if not stage.is_dir():
        raise SpecError(f"{stage}: no stage of a run", hint="name one as in runs/rlhf/aligned")
    files = (stage / _FOLDER).glob("round-*.jsonl")
    numbered = ((f.stem.removeprefix("round-"), f) for f in files)
    found = {int(number): f for number, f in numbered if number.isdecimal()}
    if not found:
        others = sorted(f.parent.name for f in stage.parent.glob(f"*/{_FOLDER}"))
        there = f"; stages beside it that have some: {', '.join(others)}" if others else ""
        raise SpecError(
            f"{stage}: no rollouts in it",
            hint=f"stages with an online objective (ppo, rloo, grpo) write them{there}",
        )
    return found


def _read(file: Path) -> list[Row]:
    """Rows with the same columns of texts and numbers. Raises RunError for any other file."""
    try:
        lines = read_regular(file).decode("utf-8").split("\n")
        rows = [json_of(line) for line in lines if line]
        kinds = {tuple((name, _kind(value)) for name, value in row.items()) for row in rows}
        if len(kinds) != 1:
            raise ValueError("its rows differ in columns" if kinds else "it has no row")
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise RunError(f"{file}: is damaged ({error})", hint="look at another round") from error
    return rows


def _kind(value: Any) -> type:
    """``str``, or the type of a number. Raises TypeError or ValueError for any other value."""
    return str if isinstance(value, str) else type(float(value))


def _sorted(rows: list[Row], sort: str | None) -> list[Row]:
    """Rows by a column, the largest first; by ``-COLUMN`` the smallest first."""
    if sort is None:
        return rows
    column = sort.removeprefix("-")
    if column not in rows[0]:
        raise SpecError(f"--sort {sort}: no such column", hint=f"columns: {', '.join(rows[0])}")
    return sorted(rows, key=lambda row: row[column], reverse=sort == column)


def _means(rows: Sequence[Row]) -> dict[str, float]:
    return {name: statistics.fmean(row[name] for row in rows) for name in _figures(rows[0])}


def _figures(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, str)}


def _table(rows: Sequence[Row], means: Mapping[str, float]) -> Table:
    """A table with figures on the left, prompt and answer on the right."""
    table = Table(box=box.HORIZONTALS, show_header=False, show_lines=True, pad_edge=False)
    table.add_column(max_width=_FIGURES)
    table.add_column()
    for row in rows:
        said = [_plain(value) for value in row.values() if isinstance(value, str)]
        texts = Text("\n").join(
            Text(text, style="bold" if first else "")
            for first, text in zip([True] + [False] * len(said), said, strict=False)
        )
        table.add_row(_grid(_figures(row)), texts)
    table.add_row(_grid(means), Text("means of the round", style="dim"))
    return table


def _grid(figures: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for name, value in figures.items():
        told = ("yes" if value else "no") if isinstance(value, bool) else f"{value:.4g}"
        grid.add_row(Text(_plain(name), style="dim"), told)
    return grid


def _plain(text: str) -> str:
    """The text without control sequences, which a terminal would obey."""
    return cleaned(text).strip("\n")
