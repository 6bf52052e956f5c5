"""Processors of before, with ``process(record)``, which work for one more version."""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import Any

import pyarrow as pa

from engine._deprecated import warn
from engine.contracts.data import Corpus, CorpusStep, Dataset, Processor
from engine.contracts.records import Record
from engine.data.corpus.each import blaming_at, columns_from, row_from
from engine.data.corpus.parts import ADDRESS, records_in


class FormerProcessor(CorpusStep):
    """Gets all documents in their order, as it may remember some."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def process(self, record: Record) -> Any:
        """As its author calls it in tests."""
        return self._given.process(record)

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`. What it finds is used in this run only."""
        return corpus.map(partial(self._next, run=token_hex(8)), corpus.documents)

    def _next(self, documents: pa.Table, *, run: str) -> pa.Table:
        """The columns of the next part. Raises RunError naming the document where it fails."""
        rows = []
        for document in records_in(documents):
            with blaming_at(self._given, document):
                rows.append(row_from(document, self._given.process(document)))
        addresses = {name: documents.column(name) for name in ADDRESS}
        return pa.table({**addresses, **columns_from(rows)})


def as_processor(built: object) -> object:
    """A former processor with a warning for its author; anything else as it is."""
    if isinstance(built, Processor | CorpusStep) or not hasattr(built, "process"):
        return built
    cls = type(built)
    warn(
        f"{cls.__module__}.{cls.__qualname__} has process(record): return engine.each(function) of a "
        "function of one record, or subclass engine.Processor"
    )
    return FormerProcessor(built)
