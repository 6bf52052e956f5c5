"""Documents without their passages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.deduplicate.substring.candidates import EMPTY, integers
from engine_corpus.deduplicate.substring.words import Integers, Words, words_of

RULE = "repeated-passages"
_COLUMNS = {
    "text": pa.large_string(),
    "drop": pa.string(),
    "substring_words": pa.int64(),
    "substring_spans": pa.string(),
}
Span = tuple[int, int, str]
"""First word, word after the last, and the id of the keeper."""


def cut(documents: pa.Table, passages: pa.Table, verified: pa.Table) -> pa.Table:
    """The columns of the documents of which something is cut; mapped over a corpus."""
    if not verified.num_rows:
        return EMPTY
    keeper = verified.column("keeper").take(
        pc.index_in(passages.column("claim"), verified.column("claim"))
    )
    passages = passages.select(["row", "first", "words"]).append_column("keeper", keeper)
    passages = passages.filter(pc.is_valid(keeper))
    passages = passages.sort_by([("row", "ascending"), ("first", "ascending")])
    rows = integers(passages, "row")
    used, begin = np.unique(rows, return_index=True)
    chosen = documents.take(pc.index_in(pa.array(used), documents.column("row")))
    columns = [passages.column(name).to_pylist() for name in ("first", "words", "keeper")]
    runs = list(zip(*columns, strict=True))
    ends = [*begin[1:], rows.size]
    made = [
        _without(text, spans_of(runs[a:b]))
        for text, a, b in zip(chosen.column("text").to_pylist(), begin, ends, strict=True)
    ]
    table = chosen.select(["part", "row"])
    for name, kind in _COLUMNS.items():
        table = table.append_column(name, pa.array([row.get(name) for row in made], kind))
    return table


def spans_of(passages: Iterable[tuple[int, int, str]]) -> list[Span]:
    """What passages, each with its first word, number of words and keeper, cover, without overlaps.

    Passages are in order. A word belongs to the first passage that has it; passages of one keeper that
    touch are one span.
    """
    spans: list[Span] = []
    done = 0
    for first, words, keeper in passages:
        end = first + words
        if end <= done:
            continue
        first = max(first, done)
        if spans and spans[-1][1:] == (first, keeper):
            first = spans.pop()[0]
        spans.append((first, end, keeper))
        done = end
    return spans


def _without(text: str, spans: Sequence[Span]) -> dict[str, Any]:
    """The columns of a document without these spans of its words."""
    words = words_of(pa.array([text], pa.large_string()))
    starts, ends = _characters(words, len(text))
    columns = {
        "substring_words": sum(end - first for first, end, _ in spans),
        "substring_spans": json.dumps(
            [[int(starts[a]), int(ends[b - 1]), keeper] for a, b, keeper in spans],
            ensure_ascii=False,
        ),
    }
    if columns["substring_words"] == starts.size:
        return {**columns, "drop": RULE}
    pieces, done = [], 0
    for first, end in _joined(spans):
        before = text[ends[first - 1] if first else 0 : starts[first]]
        after = text[ends[end - 1] : starts[end] if end < starts.size else len(text)]
        pieces.append(text[done : starts[first] - len(before)])
        pieces.append(_gap(before, after, first == 0, end == starts.size))
        done = ends[end - 1] + len(after)
    return {**columns, "text": "".join([*pieces, text[done:]])}


def _gap(before: str, after: str, at_start: bool, at_end: bool) -> str:
    """The white space that stays where a passage stood between these.

    It has the line breaks of the side that has more, so that paragraphs stay apart, and the indentation
    of what follows. A text ends as it did.
    """
    if at_end or (before.count("\n") <= after.count("\n") and not at_start):
        return after
    line = after.rfind("\n") + 1
    if at_start:
        return after[line:] if line else ""
    return before[: before.rfind("\n") + 1] + after[line:] if line else before


def _joined(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """The spans, those that touch as one."""
    begin, done = spans[0][:2]
    for first, end, _ in spans[1:]:
        if first != done:
            yield begin, done
            begin = first
        done = end
    yield begin, done


def _characters(words: Words, length: int) -> tuple[Integers, Integers]:
    """Where words start and end, in characters of their text, which has so many."""
    if words.data.size == length:
        return words.starts, words.ends
    characters = np.cumsum(words.data & 0xC0 != 0x80)  # bytes that begin a character
    return characters[words.starts] - 1, characters[words.ends - 1]
