"""The leaderboard's tables, fitted to the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from engine import score_text
from engine_evals.leaderboard.entries import Column, Entry, LoggedScore, columns_of

NOTE = "± half of a 95 % interval"


def tables(entries: Sequence[Entry], chosen: Column, width: int) -> Iterator[Table]:
    """Tables with the chosen score first; columns that do not fit go to the next table."""
    columns = [chosen, *(column for column in columns_of(entries) if column != chosen)]
    models = _model_columns(entries)
    taken = sum(_width(cells) for cells in models)
    while columns:
        table, room = Table(box=None), width - taken
        for number, cells in enumerate(models):
            table.add_column(
                escape(cells[0]), justify="right" if number else "left", overflow="fold"
            )
        shown: list[list[str]] = []
        while columns and (not shown or _width(_score_cells(entries, columns[0])) <= room):
            cells = _score_cells(entries, columns.pop(0))
            table.add_column(escape(cells[0]), justify="right", overflow="fold")
            shown.append(cells)
            room -= _width(cells)
        for line in zip(*(column[1:] for column in (*models, *shown)), strict=True):
            table.add_row(*map(escape, line))
        yield table


def _model_columns(entries: Sequence[Entry]) -> list[list[str]]:
    return [
        ["model", *(entry.name for entry in entries)],
        ["step", *("" if entry.step is None else f"{entry.step:,}" for entry in entries)],
        ["parameters", *(_short(entry.parameters) for entry in entries)],
    ]


def _score_cells(entries: Sequence[Entry], column: Column) -> list[str]:
    higher = next(
        entry.scores[column].higher_is_better for entry in entries if column in entry.scores
    )
    title = f"{column[0]}\n{column[1].replace('_', ' ')} {'↑' if higher else '↓'}"
    return [title, *(_cell(entry.scores.get(column)) for entry in entries)]


def _width(cells: Iterable[str]) -> int:
    """Width of a column including the space on both sides."""
    return 2 + max(len(line) for cell in cells for line in cell.splitlines() or [""])


def _cell(score: LoggedScore | None) -> str:
    if score is None:
        return ""
    if score.value is None:
        return "–"
    return score_text(asdict(score))


def _short(number: int | None) -> str:
    if number is None:
        return ""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)
