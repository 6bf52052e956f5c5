"""Step ``exact-dedup``: of documents with the same text, the one of the highest priority stays, of
several the first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from engine import Context, Corpus, CorpusStep, Dataset
from engine_data.config import ExactDedup


class ExactDedupStep(CorpusStep):
    """Drops by the rule ``duplicate``; the column ``keeper`` has the id of the document that stays."""

    def __init__(self, config: ExactDedup) -> None:
        self._ignore = config.ignore

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`."""
        digests = corpus.map(partial(_digests, ignore=self._ignore), corpus.documents)
        return corpus.map(_later, corpus.shuffle(digests, "digest"))


def build(config: ExactDedup, context: Context) -> ExactDedupStep:
    """Builds the step."""
    return ExactDedupStep(config)


def _digests(documents: pa.Table, ignore: Sequence[str]) -> pa.Table:
    """Two halves of a hash of each text."""
    texts = documents.column("text").to_pylist()
    found = np.frombuffer(b"".join(_digest(text, ignore) for text in texts), "<u8").reshape(-1, 2)
    columns = {name: documents.column(name) for name in ("part", "row", "id", "priority")}
    return pa.table({**columns, "digest": found[:, 0], "rest": found[:, 1]})


def _digest(text: str, ignore: Sequence[str]) -> bytes:
    if "whitespace" in ignore:
        text = " ".join(text.split())
    if "case" in ignore:
        text = text.casefold()
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _later(digests: pa.Table) -> pa.Table:
    """The documents whose text stands in one before them."""
    order = {"digest": "ascending", "rest": "ascending", "priority": "descending"}
    rows = digests.sort_by([*order.items(), ("part", "ascending"), ("row", "ascending")])
    halves = [rows.column(name).to_numpy() for name in ("digest", "rest")]
    again = np.zeros(rows.num_rows, bool)
    again[1:] = np.logical_and.reduce([half[1:] == half[:-1] for half in halves])
    first = np.maximum.accumulate(np.where(again, 0, np.arange(rows.num_rows)))
    dropped = pa.table(
        {
            "part": rows.column("part"),
            "row": rows.column("row"),
            "drop": pa.array(["duplicate"] * rows.num_rows, pa.string()),
            "keeper": rows.column("id").take(pa.array(first)),
        }
    )
    return dropped.filter(pa.array(again))
