"""The step on corpora in memory, and what it should do, written plainly."""

from __future__ import annotations

import ast
import json
import re
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.deduplicate.substring.config import SubstringDedup
from engine_corpus.deduplicate.substring.step import build
from support.memory_corpus import MemoryCorpus


class CountingCorpus(MemoryCorpus):
    """Counts the rows that the verbs make."""

    def __init__(self, documents: Sequence[pa.Table]) -> None:
        super().__init__(documents)
        self.rows = 0
        self.largest_group = 0
        """Rows of the most frequent key of all shuffles by content."""
        self.made: dict[str, Sequence[pa.Table]] = {}

    def map(self, function, *data):
        """See :class:`engine.Corpus`."""
        made = super().map(function, *data)
        self.rows += sum(table.num_rows for table in made.tables)
        self.made[getattr(function, "func", function).__name__] = made.tables
        return made

    def shuffle(self, data, key):
        """See :class:`engine.Corpus`."""
        whole = data.whole()
        if key != "part" and whole.num_rows:
            found = np.unique_counts(whole.column(key).to_numpy()).counts.max()
            self.largest_group = max(self.largest_group, found)
        return super().shuffle(data, key)


@dataclass(frozen=True)
class Outcome:
    """What becomes of a document: its text or the rule that drops it, and the words that are cut."""

    text: str | None
    rule: str | None
    spans: list[tuple[int, int, str]]
    cut: set[int]
    """Numbers of words."""


def tables(texts: Sequence[str], ids: Sequence[str], priorities, parts: int) -> list[pa.Table]:
    """Documents in parts of nearly the same size."""
    made = []
    for part, places in enumerate(np.array_split(np.arange(len(texts)), parts)):
        rows = [(part, row, ids[at], texts[at]) for row, at in enumerate(places)]
        table = pa.table(
            {
                "part": pa.array([row[0] for row in rows], pa.int32()),
                "row": pa.array([row[1] for row in rows], pa.int64()),
                "id": pa.array([row[2] for row in rows], pa.string()),
                "text": pa.array([row[3] for row in rows], pa.large_string()),
                "source": pa.array(["s"] * len(rows), pa.string()),
            }
        )
        if priorities is not None:
            table = table.append_column("priority", pa.array([priorities[at] for at in places]))
        made.append(table)
    return made


def deduplicated(
    texts: Sequence[str], *, words=3, ignore=(), ids=None, priorities=None, parts=1
) -> list[Outcome]:
    """Outcomes in the order of the texts, whose ids are their numbers unless given."""
    ids = ids or [f"{number:06d}" for number in range(len(texts))]
    corpus = CountingCorpus(tables(texts, ids, priorities, parts))
    found = build(SubstringDedup(words=words, ignore=ignore), None).run(corpus)
    rows = {(row["part"], row["row"]): row for table in found.tables for row in table.to_pylist()}
    addresses = [
        tuple(row.values())
        for table in corpus.documents.tables
        for row in table.select(["part", "row"]).to_pylist()
    ]
    return [
        outcome(text, rows.get(address)) for text, address in zip(texts, addresses, strict=True)
    ]


def outcome(text: str, row) -> Outcome:
    """Checks what a row says of itself."""
    if row is None:
        return Outcome(text, None, [], set())
    spans = [tuple(span) for span in json.loads(row["substring_spans"])]
    words = [match.span() for match in re.finditer(r"\S+", text)]
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    starts, ends = ({word[side] for word in words} for side in (0, 1))
    assert all(span[0] in starts and span[1] in ends for span in spans)
    cut = {
        number
        for number, (start, end) in enumerate(words)
        if any(span[0] <= start and end <= span[1] for span in spans)
    }
    assert row["substring_words"] == len(cut) > 0
    kept = [text[a:b] for number, (a, b) in enumerate(words) if number not in cut]
    if row["drop"] is None:
        assert row["text"].split() == kept != []
    else:
        assert row["text"] is None
        assert kept == []
    return Outcome(row["text"], row["drop"], spans, cut)


def places(texts, ids=None, priorities=None) -> list[int]:
    """Each document's place: by highest priority, longest text and id."""
    number = range(len(texts))
    ids = ids or [f"{one:06d}" for one in number]
    priorities = priorities or [0] * len(texts)
    order = sorted(number, key=lambda one: (-priorities[one], -len(texts[one]), ids[one]))
    found = [0] * len(texts)
    for place, one in enumerate(order):
        found[one] = place
    return found


@pytest.fixture(name="deduplicated", scope="session")
def _deduplicated() -> Callable[..., list[Outcome]]:
    """See `deduplicated`."""
    return deduplicated


@pytest.fixture(name="places", scope="session")
def _places() -> Callable[..., list[int]]:
    """See `places`."""
    return places


@pytest.fixture
def memory_corpus() -> Callable[..., CountingCorpus]:
    """Makes a corpus of these texts in so many parts."""

    def made(texts: Sequence[str], parts: int) -> CountingCorpus:
        ids = [str(number) for number in range(len(texts))]
        return CountingCorpus(tables(texts, ids, None, parts))

    return made


@pytest.fixture(scope="session")
def library() -> Callable[[int], list[str]]:
    """Gives so many real texts that share passages: modules of the standard library, each followed by
    its long docstrings."""
    return lambda count: list(islice(_library(), count))


def _library() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = file.read_text(encoding="utf-8")
        yield source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
                docstring = ast.get_docstring(node)
                if docstring and len(docstring) > 800:
                    yield docstring
