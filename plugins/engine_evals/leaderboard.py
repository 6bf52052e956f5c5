"""All checkpoints and runs in a folder, compared by their scores (``engine evals leaderboard``)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from engine import RunError, SpecError, Terminal

Column = tuple[str, str]
"""An evaluator and its metric."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A score as the log has it; ``value`` is None for one that was not finite."""

    value: float | None
    stderr: float | None
    n: int | None
    higher_is_better: bool
    interval: tuple[float, float] | None


@dataclass(slots=True)
class Row:
    """A model's scores at a step; without a step it came from elsewhere."""

    run: str
    model: str
    step: int | None
    parameters: int | None = None
    scores: dict[Column, Figure] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Run and stage."""
        return f"{self.run}/{self.model}"


def show(
    folder: Path,
    metric: str | None,
    plot: Path | None,
    by: Literal["step", "parameters"],
    as_json: bool,
) -> None:
    """Prints the leaderboard and draws it.

    Raises RunError where there is no score or no plot can be made, SpecError for a metric that no
    model has.
    """
    rows, damaged = read(folder)
    if not rows:
        raise RunError(f"{folder}: no run in it has scores", mend="name the folder of the runs")
    column = _column(rows, metric)
    rows.sort(key=lambda row: _rank(row, column))
    if plot is not None:
        from engine_evals.plot import draw

        draw(rows, column, by, plot)
    if as_json:
        print(json.dumps([_record(row) for row in rows], indent=2))  # noqa: T201
        return
    console = Terminal()
    for table in _tables(rows, column, console.width):
        console.print(table)
    if damaged:
        console.print(f"left out: {damaged} damaged lines", style="yellow")
    if plot is not None:
        console.print(f"drawn: {plot}", markup=False, soft_wrap=True)


def read(folder: Path) -> tuple[list[Row], int]:
    """A row for each scored checkpoint of the runs in a folder; how many lines were damaged."""
    rows: list[Row] = []
    damaged = 0
    for file in sorted(folder.glob("*/events.jsonl")):
        log = _Log(file.parent.name)
        for event in _events(file):
            try:
                log.read(event)
            except (KeyError, TypeError, ValueError, OverflowError):
                damaged += 1
        rows += log.rows.values()
    return rows, damaged


class _Log:
    """What one run's events come to."""

    def __init__(self, run: str) -> None:
        self.rows: dict[tuple[str, int | None], Row] = {}
        self._run = run
        self._parameters: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._begun: set[str] = set()

    def read(self, event: Mapping[str, Any]) -> None:
        """Takes an event in. Raises KeyError, TypeError or ValueError for a damaged one."""
        match event["event"]:
            case "training":
                self._begun.add(event["stage"])
                self._parameters[event["stage"]] = int(event["parameters"])
            case "resumed":
                self._begun.discard(event["stage"])
            case "step":
                self._forget(event["stage"])
                self._steps[event["stage"]] = int(event["step"])
            case "score":
                self._score(event)

    def _forget(self, stage: str) -> None:
        """Scores from before a stage began anew are another model's."""
        if stage in self._begun:
            self._begun.discard(stage)
            self.rows = {key: row for key, row in self.rows.items() if key[0] != stage}

    def _score(self, event: Mapping[str, Any]) -> None:
        self._forget(event["stage"])
        model, step = str(event["model"]), event["step"]
        # An evaluate stage scores what training has come to by then.
        step = self._steps.get(model) if step is None else int(step)
        figure = Figure(
            _finite(event["value"]),
            _finite(event.get("stderr")),
            event.get("n"),
            bool(event.get("higher_is_better", True)),
            _pair(event.get("interval")),
        )
        column = str(event["evaluator"]), str(event["metric"])
        row = self.rows.setdefault((model, step), Row(self._run, model, step))
        row.parameters = self._parameters.get(model)
        row.scores[column] = figure


def _events(file: Path) -> Iterator[Mapping[str, Any]]:
    """The lines that are not blank; one that is no object is an empty event."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}") from error
    for line in filter(bytes.strip, lines):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        yield event if isinstance(event, dict) else {}


def _finite(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    low, high = value
    return float(low), float(high)


def _columns(rows: Iterable[Row]) -> list[Column]:
    return list(dict.fromkeys(column for row in rows for column in row.scores))


def _column(rows: Sequence[Row], metric: str | None) -> Column:
    """The column that a metric's name means; without one, that which most rows have."""
    if metric is None:
        return Counter(column for row in rows for column in row.scores).most_common(1)[0][0]
    columns = _columns(rows)
    found = [c for c in columns if metric in (c[1], "/".join(c))]
    if len(found) == 1:
        return found[0]
    what = "is of several evaluators" if found else "no model has it"
    there = ", ".join("/".join(column) for column in found or columns)
    raise SpecError(f"--metric {metric}: {what}", mend=f"name one of: {there}")


def _rank(row: Row, column: Column) -> tuple[bool, float]:
    """Best first, those without the score last."""
    figure = row.scores.get(column)
    if figure is None or figure.value is None:
        return True, 0.0
    return False, -figure.value if figure.higher_is_better else figure.value


def _tables(rows: Sequence[Row], chosen: Column, width: int) -> Iterator[Table]:
    """The table, the chosen score first; columns that do not fit follow under it."""
    columns = [chosen, *(column for column in _columns(rows) if column != chosen)]
    models = _model_columns(rows)
    taken = sum(_width(cells) for cells in models)
    while columns:
        table, room = Table(box=None), width - taken
        for number, cells in enumerate(models):
            table.add_column(
                escape(cells[0]), justify="right" if number else "left", overflow="fold"
            )
        shown: list[list[str]] = []
        while columns and (not shown or _width(_score_cells(rows, columns[0])) <= room):
            cells = _score_cells(rows, columns.pop(0))
            table.add_column(escape(cells[0]), justify="right", overflow="fold")
            shown.append(cells)
            room -= _width(cells)
        for line in zip(*(column[1:] for column in (*models, *shown)), strict=True):
            table.add_row(*map(escape, line))
        yield table


def _model_columns(rows: Sequence[Row]) -> list[list[str]]:
    return [
        ["model", *(row.name for row in rows)],
        ["step", *("" if row.step is None else f"{row.step:,}" for row in rows)],
        ["parameters", *(_short(row.parameters) for row in rows)],
    ]


def _score_cells(rows: Sequence[Row], column: Column) -> list[str]:
    higher = next(row.scores[column].higher_is_better for row in rows if column in row.scores)
    title = f"{column[0]}\n{column[1].replace('_', ' ')} {'↑' if higher else '↓'}"
    return [title, *(_cell(row.scores.get(column)) for row in rows)]


def _width(cells: Iterable[str]) -> int:
    """Of a column, with the space on both its sides."""
    return 2 + max(len(line) for cell in cells for line in cell.splitlines() or [""])


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.value is None:
        return "–"
    if figure.interval:
        low, high = figure.interval
        return f"{figure.value:.4g} [{low:.2g}, {high:.2g}]"
    return f"{figure.value:.4g}" + (f" ± {figure.stderr:.2g}" if figure.stderr else "")


def _short(number: int | None) -> str:
    if number is None:
        return ""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _record(row: Row) -> dict[str, Any]:
    scores = [
        {"evaluator": evaluator, "metric": metric, **asdict(figure)}
        for (evaluator, metric), figure in row.scores.items()
    ]
    return {
        "run": row.run,
        "model": row.model,
        "step": row.step,
        "parameters": row.parameters,
        "scores": scores,
    }
