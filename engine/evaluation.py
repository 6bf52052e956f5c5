"""Runs evaluators: shares items over ranks, keeps every row, and goes on where it was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from engine.component import Evaluator, Item, Score
from engine.language_model import LanguageModel
from engine.launch import Process

_ITEMS_PER_ROUND = 256
"""Items answered between two writes of rows: what a kill can cost."""


def evaluate(
    evaluator: Evaluator,
    lm: LanguageModel,
    process: Process,
    *,
    limit: int | None = None,
    rows_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Score]:
    """The scores, the same on every rank.

    With ``rows_file`` each rank keeps a line per item there (its rank in the name) and skips the
    items that are there already.
    """
    items = list(islice(evaluator.items(), limit))
    done = _read_rows(rows_file)
    mine = [item for item in items if item.id not in done][process.rank :: process.world_size]
    fresh: dict[str, dict[str, float]] = {}
    for start in range(0, len(mine), _ITEMS_PER_ROUND):
        group = mine[start : start + _ITEMS_PER_ROUND]
        fresh |= _answer(evaluator, lm, group, lambda n: progress(n, len(mine)), len(fresh))
        if rows_file:
            _append_rows(rows_file, process.rank, {item.id: fresh[item.id] for item in group})
    gathered = process.gather(fresh)
    rows = process.broadcast({**done, **{k: v for part in gathered for k, v in part.items()}})
    return evaluator.summarise([rows[item.id] for item in items])


def _answer(
    evaluator: Evaluator,
    lm: LanguageModel,
    items: list[Item],
    progress: Callable[[int], None],
    before: int,
) -> dict[str, dict[str, float]]:
    requests = [request for item in items for request in item.requests]
    share = len(items) / max(1, len(requests))
    responses = iter(lm.answer(requests, lambda n: progress(before + int(n * share))))
    return {
        item.id: evaluator.score(item, list(islice(responses, len(item.requests))))
        for item in items
    }


def _read_rows(file: Path | None) -> dict[str, dict[str, float]]:
    rows: dict[str, dict[str, float]] = {}
    if file is None:
        return rows
    for part in sorted(file.parent.glob(f"{file.stem}.*{file.suffix}")):
        for line in part.read_text(encoding="utf-8").splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
            except ValueError:  # the line that a kill cut off: its item is asked again
                continue
            rows[row["id"]] = row["values"]
    return rows


def _append_rows(file: Path, rank: int, rows: dict[str, dict[str, float]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}.{rank}{file.suffix}")
    with part.open("a", encoding="utf-8") as out:
        # A line of its own first: the one before may be cut off.
        out.write("\n" if out.tell() else "")
        out.writelines(json.dumps({"id": i, "values": v}) + "\n" for i, v in rows.items())
