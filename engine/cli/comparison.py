"""Scores of several models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from engine.contracts.scoring import CLEAN, score_text

_Score = Mapping[str, Any]
NOTE = "  ± half of a 95 % interval"
_CLEAN_NOTE = "  clean: without the items found in documents prepared for training"


def comparison(
    title: str, scores: Sequence[_Score], models: Sequence[str], console: Console
) -> Group:
    """A table with a row per metric and a column per model; several, if the console is too narrow."""
    tables = []
    while models:
        count = len(models)
        while count > 1 and _width(title, scores, models[:count], console) > console.width:
            count -= 1
        tables.append(_table(title, scores, models[:count]))
        models = models[count:]
    return Group(*tables, NOTE, *clean_note(scores))


def clean_note(scores: Sequence[_Score]) -> list[str]:
    """What clean scores are, if there are any."""
    return [_CLEAN_NOTE] if any(is_clean(score) for score in scores) else []


def is_clean(score: _Score) -> bool:
    """Whether a score leaves out the items that training documents have."""
    return str(score["metric"]).endswith(CLEAN)


def _width(title: str, scores: Sequence[_Score], models: Sequence[str], console: Console) -> int:
    table = _table(title, scores, models)
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _table(title: str, scores: Sequence[_Score], models: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(escape(title))
    for model in models:
        table.add_column(escape(model), justify="right")
    for evaluator in dict.fromkeys(score["evaluator"] for score in scores):
        own = [score for score in scores if score["evaluator"] == evaluator]
        for label, cells in _rows(evaluator, own, models):
            table.add_row(escape(label), *map(escape, cells))
    return table


def _rows(
    evaluator: str, scores: Sequence[_Score], models: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """A row with the evaluator's name, unless its only metric has this name, then its metrics."""
    metrics = list(dict.fromkeys(score["metric"] for score in scores))
    alone = metrics == [evaluator]
    if not alone:
        yield f"  {evaluator}", []
    for metric in metrics:
        own = [score for score in scores if score["metric"] == metric]
        found = {score["model"]: score_text(score) for score in own}
        label = metric.replace("_", " ") + (f", {own[0]['n']:,} items" if is_clean(own[0]) else "")
        yield "  " * (2 - alone) + label, [found.get(model, "") for model in models]
