"""Runs evaluators: shares items over ranks, keeps every row, and goes on where it was killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from engine.language_model import LanguageModel
from engine.launch import Process
from engine.requests import Evaluator, Generation, Item, Response, Score

_ITEMS_PER_ROUND = 256
"""Items answered between two writes of rows: what a kill can cost."""

_Row = dict[str, Any]
"""``id``, ``prompt`` (a hash of what was asked), ``responses``, and the evaluator's ``values``."""


def evaluate(
    evaluator: Evaluator,
    lm: LanguageModel,
    process: Process,
    *,
    limit: int | None = None,
    rows_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> list[Score]:
    """The scores, the same on every rank, with the fingerprint of what was asked.

    See :func:`measure`.
    """
    return measure(
        evaluator, lm, process, limit=limit, rows_file=rows_file, progress=progress, warn=warn
    ).scores


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores, and the evaluator's values of each item by its id."""

    scores: list[Score]
    values: dict[str, dict[str, Any]]


def measure(
    evaluator: Evaluator,
    lm: LanguageModel,
    process: Process,
    *,
    limit: int | None = None,
    rows_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Measured:
    """Asks every item once, on some rank; all ranks get the same.

    With ``rows_file`` each rank keeps a line per item there (its rank in the name) and skips the
    items that are there already, as long as the same is asked of them.
    """
    items = list(islice(evaluator.items(), limit))
    prompts = {item.id: _hash(repr(item.requests)) for item in items}
    # One rank looks: another might see what a third has written since, and leave out other items.
    there = process.broadcast(_read_rows(rows_file) if process.rank == 0 else {})
    kept = {i: row for i, row in there.items() if row["prompt"] == prompts.get(i)}
    mine = [item for item in items if item.id not in kept][process.rank :: process.world_size]
    fresh: dict[str, _Row] = {}
    for start in range(0, len(mine), _ITEMS_PER_ROUND):
        group = mine[start : start + _ITEMS_PER_ROUND]
        rows = _answer(evaluator, lm, group, prompts, lambda n: progress(n, len(mine)), len(fresh))
        if rows_file:
            _append_rows(rows_file, process.rank, rows)
        fresh |= {row["id"]: row for row in rows}
    gathered = process.gather(fresh)
    found = process.broadcast({**kept, **{k: v for part in gathered for k, v in part.items()}})
    rows = [found[item.id] for item in items]
    for message in _shortcomings(items, rows):
        warn(message)
    fingerprint = _hash(json.dumps([lm.fingerprint, sorted(prompts.items())]))[:12]
    scores = evaluator.summarise([row["values"] for row in rows])
    return Measured(
        [replace(score, fingerprint=fingerprint) for score in scores],
        {row["id"]: row["values"] for row in rows},
    )


def gains(evaluator: Evaluator, measured: Measured, baseline: Measured) -> list[Score]:
    """The paired differences to the baseline, over the items that both were asked."""
    compare = getattr(evaluator, "compare", None)
    if compare is None:
        return []
    both = [name for name in measured.values if name in baseline.values]
    found: list[Score] = compare(
        [measured.values[name] for name in both], [baseline.values[name] for name in both]
    )
    return found


def _answer(
    evaluator: Evaluator,
    lm: LanguageModel,
    items: list[Item],
    prompts: dict[str, str],
    progress: Callable[[int], None],
    before: int,
) -> list[_Row]:
    requests = [request for item in items for request in item.requests]
    share = len(items) / max(1, len(requests))
    answered = iter(lm.answer(requests, lambda n: progress(before + int(n * share))))
    responses = [list(islice(answered, len(item.requests))) for item in items]
    score_all = getattr(evaluator, "score_all", None)
    values = (
        score_all(items, responses)
        if score_all
        else [evaluator.score(*one) for one in zip(items, responses, strict=True)]
    )
    return [
        {
            "id": item.id,
            "prompt": prompts[item.id],
            "responses": [_told(response) for response in own],
            "values": row,
        }
        for item, own, row in zip(items, responses, values, strict=True)
    ]


def _told(response: Response) -> dict[str, Any]:
    """What differs from an answer that has nothing to say of it; not the ids, as the text is there."""
    usual = {**asdict(Response()), "ids": response.ids}
    return {name: value for name, value in asdict(response).items() if value != usual[name]}


def _shortcomings(items: Sequence[Item], rows: Sequence[_Row]) -> list[str]:
    """What the scores do not show: prompts cut at their beginning, texts that came to no end."""
    told = [response for row in rows for response in row["responses"]]
    cut = sum(response.get("truncated", False) for response in told)
    texts = sum(isinstance(r, Generation) for item in items for r in item.requests)
    unended = sum(not response.get("ended", True) for response in told)
    messages = []
    if cut:
        messages.append(f"{cut} of {len(told)} prompts did not fit and lost their beginning")
    if unended:
        messages.append(f"{unended} of {texts} texts were cut off at their longest")
    return messages


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_rows(file: Path | None) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    if file is None:
        return rows
    for part in sorted(file.parent.glob(f"{file.stem}.*{file.suffix}")):
        for line in part.read_text(encoding="utf-8").splitlines():
            try:
                row: _Row = json.loads(line)
            except ValueError:  # the line that a kill cut off: its item is asked again
                continue
            rows[row["id"]] = row
    return rows


def _append_rows(file: Path, rank: int, rows: Sequence[_Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}.{rank}{file.suffix}")
    with part.open("a", encoding="utf-8") as out:
        # A line of its own first: the one before may be cut off.
        out.write("\n" if out.tell() else "")
        out.writelines(json.dumps(row) + "\n" for row in rows)
