"""Runs evaluators: shares items over ranks, stores the row of every item, and resumes after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from engine.contracts.language_model import Generation, LanguageModel, Response
from engine.contracts.scoring import CLEAN, Evaluator, Item, Sample, Score
from engine.files.reading import json_of
from engine.processes.process import Process

_ITEMS_PER_ROUND = 256
"""Items answered between two writes of rows; a kill loses at most that many per rank."""

_Row = dict[str, Any]
"""``id``, ``prompt`` (a hash of the requests), ``responses``, and the evaluator's ``values``."""
_ROW = {"id", "prompt", "responses", "values"}


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores of one model, the evaluator's values of each item by its id, and texts for the log."""

    scores: list[Score]
    values: dict[str, dict[str, Any]]
    samples: Sequence[Sample] = ()


def evaluate(
    evaluator: Evaluator,
    lm: LanguageModel,
    process: Process,
    *,
    limit: int | None = None,
    touched: Collection[str] = (),
    rows_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Measured:
    """Evaluates every item once, on one of the ranks; all ranks get the same result. Collective.

    With ``rows_file`` each rank appends a line per item to its own file, with the rank in its name.
    Items that are already in one of these files with the same requests are skipped.

    ``touched``: ids of items that training documents have. Each score over some of them is followed by
    its clean score, over the others.
    """
    items = list(islice(evaluator.items(), limit))
    prompts = {item.id: _hash(repr(item.requests)) for item in items}
    # Only rank 0 reads: other ranks might already see newer rows, and so skip other items.
    stored = process.broadcast(_read_rows(rows_file) if process.rank == 0 else {})
    kept = {i: row for i, row in stored.items() if row["prompt"] == prompts.get(i)}
    mine = [item for item in items if item.id not in kept][process.rank :: process.world_size]
    fresh: dict[str, _Row] = {}

    def answered(done: int) -> None:
        progress(done, len(mine))

    for start in range(0, len(mine), _ITEMS_PER_ROUND):
        group = mine[start : start + _ITEMS_PER_ROUND]
        rows = _answer(evaluator, lm, group, prompts, answered, len(fresh))
        if rows_file:
            _append_rows(rows_file, process.rank, rows)
        fresh |= {row["id"]: row for row in rows}
    gathered = process.gather(fresh)
    found = process.broadcast({**kept, **{k: v for part in gathered for k, v in part.items()}})
    rows = [found[item.id] for item in items]
    for message in _shortcomings(items, rows, getattr(evaluator, "open_ended", False)):
        warn(message)

    def scores(names: Sequence[str]) -> list[Score]:
        asked = sorted({name: prompts[name] for name in names}.items())
        fingerprint = _hash(json.dumps([lm.fingerprint, asked]))[:12]
        summary = evaluator.summarise([found[name]["values"] for name in names])
        return [replace(score, fingerprint=fingerprint) for score in summary]

    values = {row["id"]: row["values"] for row in rows}
    samples = getattr(evaluator, "samples", None)
    return Measured(
        list(_with_clean(scores, [item.id for item in items], touched)),
        values,
        samples(list(values.values())) if samples else (),
    )


def gains(
    evaluator: Evaluator, measured: Measured, baseline: Measured, touched: Collection[str] = ()
) -> list[Score]:
    """Scores of the paired differences to the baseline, over the items that both models answered;
    with ``touched`` as :func:`evaluate`."""
    compare = getattr(evaluator, "compare", None)
    if compare is None:
        return []

    def scores(names: Sequence[str]) -> list[Score]:
        rows = ([model.values[name] for name in names] for model in (measured, baseline))
        summary: list[Score] = compare(*rows)
        return summary

    both = [name for name in measured.values if name in baseline.values]
    return list(_with_clean(scores, both, touched))


def _with_clean(
    scores: Callable[[Sequence[str]], Sequence[Score]],
    names: Sequence[str],
    touched: Collection[str],
) -> Iterator[Score]:
    """The scores over items, each followed by its clean score if items are left out of that."""
    kept = [name for name in names if name not in touched]
    clean = {s.metric: s for s in (scores(kept) if 0 < len(kept) < len(names) else ())}
    for score in scores(names):
        yield score
        other = clean.get(score.metric)
        if other is not None and other.n < score.n:
            yield replace(other, metric=score.metric + CLEAN)


def _answer(
    evaluator: Evaluator,
    lm: LanguageModel,
    items: list[Item],
    prompts: dict[str, str],
    progress: Callable[[int], None],
    before: int,
) -> list[_Row]:
    """The rows of ``items``; ``before``: items answered in earlier rounds, for ``progress``."""
    requests = [request for item in items for request in item.requests]
    share = len(items) / max(1, len(requests))
    answered = iter(lm.answer(requests, lambda done: progress(before + int(done * share))))
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
            "responses": [_stored(response) for response in own],
            "values": row,
        }
        for item, own, row in zip(items, responses, values, strict=True)
    ]


def _stored(response: Response) -> dict[str, Any]:
    """The fields of a response without defaults, and without ids, which the text replaces."""
    defaults = {**asdict(Response()), "ids": response.ids}
    return {name: value for name, value in asdict(response).items() if value != defaults[name]}


def _shortcomings(items: Sequence[Item], rows: Sequence[_Row], open_ended: bool) -> list[str]:
    """Warnings on what scores do not show: truncated prompts, and, unless they are ``open_ended``,
    texts cut off at their limit."""
    responses = [response for row in rows for response in row["responses"]]
    cut = sum(response.get("truncated", False) for response in responses)
    texts = sum(isinstance(r, Generation) for item in items for r in item.requests)
    unended = sum(not response.get("ended", True) for response in responses)
    messages = []
    if cut:
        messages.append(f"{cut} of {len(responses)} prompts did not fit and lost their beginning")
    if unended and not open_ended:
        messages.append(f"{unended} of {texts} texts were cut off at their length limit")
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
                row = json_of(line)
            except ValueError:  # a line cut off by a kill: its item is answered again
                continue
            if isinstance(row, dict) and row.keys() >= _ROW:
                rows[str(row["id"])] = row
    return rows


def _append_rows(file: Path, rank: int, rows: Sequence[_Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}.{rank}{file.suffix}")
    with part.open("a", encoding="utf-8") as out:
        # Starts a new line, since the last one may be cut off.
        out.write("\n" if out.tell() else "")
        out.writelines(json.dumps(row) + "\n" for row in rows)
