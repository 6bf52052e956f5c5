"""What was found of each benchmark, for the corpus's card."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engine import BenchmarkTexts
from engine_corpus.decontaminate.index import Index

Side = tuple[str, bool]
"""A benchmark, and whether its passages are meant, or its questions and answers."""


@dataclass
class _Touched:
    """Items that documents have, where they have them, and how many do."""

    items: set[str] = field(default_factory=set)
    spans: int = 0
    documents: int = 0

    def told(self) -> dict[str, Any]:
        return {"touched": sorted(self.items), "spans": self.spans, "documents": self.documents}


def report(
    benchmarks: Sequence[BenchmarkTexts], index: Index, found: Iterator[pa.Table]
) -> Mapping[str, Any]:
    """By benchmark: its ``items``; how many are ``too_short`` to be searched for; the ids of those
    ``touched``, the ``spans`` and ``documents`` that have them; and the items, spans and documents of
    ``passages``. ``not_searched``: evaluators that do not tell their texts."""
    touched: dict[Side, _Touched] = defaultdict(_Touched)
    for document in _documents(found):
        spans: dict[Side, set[tuple[int, ...]]] = defaultdict(set)
        for one in document:
            side = (one["benchmark"], one["field"] == "passage")
            touched[side].items.add(one["item"])
            spans[side].update(map(tuple, one["spans"]))
        for side, some in spans.items():
            touched[side].spans += len(some)
            touched[side].documents += 1
    searched = {tuple(index.names[number]) for number in index.searched().tolist()}
    told = {
        one.name: {
            "items": len(one.items),
            "too_short": sum((one.name, item.id) not in searched for item in one.items),
            **touched[one.name, False].told(),
            "passages": touched[one.name, True].told(),
        }
        for one in benchmarks
        if one.items
    }
    silent = [one.name for one in benchmarks if not one.items]
    return {"benchmarks": told, "not_searched": silent}


def _documents(found: Iterator[pa.Table]) -> Iterator[list[dict[str, Any]]]:
    for table in found:
        for told in table.column("contaminated").to_pylist():
            if told is not None:
                yield json.loads(told)
