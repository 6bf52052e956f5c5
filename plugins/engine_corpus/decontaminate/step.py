"""Step ``decontaminate``: finds the items of benchmarks in documents.

The rule of Brown et al. 2020 (arXiv:2005.14165), appendix C: an n-gram of 13 words that a document
shares with an item tells that it has the item, unless more than ten documents have it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import BenchmarkTexts, Context, Corpus, CorpusStep, Dataset
from engine_corpus.decontaminate.config import Decontaminate
from engine_corpus.decontaminate.index import Index, Owner, unpacked
from engine_corpus.decontaminate.report import report
from engine_corpus.decontaminate.search import search_of
from engine_corpus.decontaminate.words import Words

Span = tuple[int, int]

_GROUP = 2**21
"""Characters of documents that are searched at once, unless a single one has more."""
_FOUND = pa.schema(
    [
        ("part", pa.int32()),
        ("row", pa.int64()),
        ("source", pa.string()),
        ("key", pa.uint64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
    ]
)
_TOLD = pa.schema(
    [
        ("part", pa.int32()),
        ("row", pa.int64()),
        ("drop", pa.string()),
        ("contaminated", pa.string()),
    ]
)


class DecontaminateStep(CorpusStep):
    """Drops documents that have a question or a right answer, by the rule ``contaminated``.

    The column ``contaminated`` lists as JSON what was found: benchmark, item, field, the spans of
    characters, and the number of n-grams. Passages are listed, and drop no document.
    """

    def __init__(self, config: Decontaminate, benchmarks: Sequence[BenchmarkTexts]) -> None:
        self._config = config
        self._benchmarks = benchmarks
        self._index = Index.of(benchmarks, config.words)

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`."""
        config, index = self._config, self._index.packed()
        search = partial(_found, index=index, near=config.near)
        found = corpus.map(search, corpus.documents)
        rare = partial(_rare, frequent=config.frequent)
        counted = corpus.map(rare, corpus.shuffle(found, "key"))
        told = partial(_told, index=index, drop=config.drop)
        return corpus.map(told, corpus.shuffle(counted, "part"))

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """What was found of each benchmark."""
        return report(self._benchmarks, self._index, found)


def build(config: Decontaminate, context: Context) -> DecontaminateStep:
    """Builds the step."""
    return DecontaminateStep(config, context.benchmark_texts())


def _found(documents: pa.Table, index: str, near: int) -> pa.Table:
    """Each key's places in each document, in characters."""
    search = search_of(index, near)
    addresses = documents.select(["part", "row", "source"])
    tables = [_FOUND.empty_table()]
    for first, texts in _groups(documents.column("text").to_pylist()):
        words = Words.of(texts)
        matches = search.matches(words)
        inside = words.text_of(matches.first)
        at = np.zeros((len(inside), 2), np.int64)
        for number in np.unique(inside).tolist():
            rows = np.flatnonzero(inside == number)
            span = matches.first[rows], matches.last[rows]
            at[rows] = words.characters(number, texts[number], *span)
        made = addresses.take(pa.array(inside + first))
        columns = {"key": matches.keys, "start": at[:, 0], "end": at[:, 1]}
        for name, values in columns.items():
            made = made.append_column(name, pa.array(values))
        tables.append(made.cast(_FOUND))
    return pa.concat_tables(tables)


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Texts to search at once, and the number of the first."""
    start, size = 0, 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= _GROUP:
            yield start, texts[start : number + 1]
            start, size = number + 1, 0
    if start < len(texts):
        yield start, texts[start:]


def _rare(found: pa.Table, frequent: int) -> pa.Table:
    """What is found, without keys that many documents of the source have."""
    documents = found.group_by(["key", "source", "part", "row"]).aggregate([])
    counts = documents.group_by(["key", "source"]).aggregate([("row", "count")])
    common = counts.filter(pc.greater(counts.column("row_count"), frequent))
    return found.join(common.select(["key", "source"]), ["key", "source"], join_type="left anti")


def _told(found: pa.Table, index: str, drop: bool) -> pa.Table:
    """The documents in which something is found, and what."""
    opened = unpacked(index)
    documents: dict[tuple[int, int], dict[int, list[Span]]] = {}
    columns = (found.column(name).to_pylist() for name in ("part", "row", "key", "start", "end"))
    for part, row, key, start, end in sorted(zip(*columns, strict=True)):
        keys = documents.setdefault((part, row), defaultdict(list))
        keys[key].append((start, end))
    owners = opened.owners(sorted({key for keys in documents.values() for key in keys}))
    rows = []
    for (part, row), keys in documents.items():
        told = _items(owners, keys)
        rule = "contaminated" if any(one["field"] != "passage" for one in told) else None
        rows.append(
            {
                "part": part,
                "row": row,
                "drop": rule if drop else None,
                "contaminated": json.dumps(told),
            }
        )
    return pa.Table.from_pylist(rows, schema=_TOLD)


def _items(
    owners: Mapping[int, Sequence[Owner]], keys: Mapping[int, Sequence[Span]]
) -> list[dict[str, Any]]:
    """The items that a document has, by what was found in it."""
    spans: dict[Owner, list[Span]] = defaultdict(list)
    counts: Counter[Owner] = Counter()
    for key, places in keys.items():
        for owner in owners[key]:
            counts[owner] += 1
            spans[owner] += places
    return [
        {
            "benchmark": benchmark,
            "item": item,
            "field": field,
            "spans": _united(spans[benchmark, item, field]),
            "ngrams": counts[benchmark, item, field],
        }
        for benchmark, item, field in sorted(counts)
    ]


def _united(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Spans that overlap or touch as one."""
    found: list[list[int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1][1] = max(end, found[-1][1])
        else:
            found.append([start, end])
    return found
