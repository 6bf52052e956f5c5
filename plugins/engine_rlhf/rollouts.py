"""The answers of a round for a person to read (``engine rlhf rollouts``)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from engine import RunError, SpecError, Terminal, cleaned

Row = Mapping[str, Any]
_FOLDER = "rollouts"
_SHOWN = 10
_FIGURES = 30
"""Columns of a terminal that figures take, at most."""


def show(
    stage: Path, number: int | None, limit: int | None, sort: str | None, as_json: bool
) -> None:
    """Prints answers of a stage's round, the last one's where no number is given.

    Raises SpecError where there is no such stage, round or column, RunError for a damaged file.
    """
    rounds = _rounds(stage)
    number = max(rounds) if number is None else number
    if number not in rounds:
        raise SpecError(
            f"{stage}: no round {number}", mend=f"it has {min(rounds)} to {max(rounds)}"
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
    """Files by the number of their round. Raises SpecError where there are none."""
    if not stage.is_dir():
        raise SpecError(f"{stage}: no stage of a run", mend="name one as in runs/rlhf/aligned")
    files = (stage / _FOLDER).glob("round-*.jsonl")
    numbered = ((f.stem.removeprefix("round-"), f) for f in files)
    found = {int(number): f for number, f in numbered if number.isdecimal()}
    if not found:
        others = sorted(f.parent.name for f in stage.parent.glob(f"*/{_FOLDER}"))
        there = f"; stages beside it that have some: {', '.join(others)}" if others else ""
        raise SpecError(
            f"{stage}: no rollouts in it",
            mend=f"stages with an online objective (ppo, rloo, grpo) write them{there}",
        )
    return found


def _read(file: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise RunError(f"{file}: is damaged ({error})", mend="look at another round") from error


def _sorted(rows: list[Row], sort: str | None) -> list[Row]:
    """The largest first; by ``-COLUMN`` the smallest."""
    if sort is None:
        return rows
    column = sort.removeprefix("-")
    if column not in rows[0]:
        raise SpecError(f"--sort {sort}: no such column", mend=f"columns: {', '.join(rows[0])}")
    return sorted(rows, key=lambda row: row[column], reverse=sort == column)


def _means(rows: Sequence[Row]) -> dict[str, float]:
    return {name: statistics.fmean(row[name] for row in rows) for name in _figures(rows[0])}


def _figures(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not isinstance(value, str)}


def _table(rows: Sequence[Row], means: Mapping[str, float]) -> Table:
    """Figures on the left, what was said on the right: answers have lines of their own."""
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
    """What a terminal shows and does not obey, whatever the model wrote."""
    return cleaned(text).strip("\n")
