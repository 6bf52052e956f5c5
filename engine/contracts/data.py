"""Contracts of data sources, processors and tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from engine.contracts.records import Bad, Record


class DataSource(Protocol):
    """A source of records."""

    def records(self, part: int, of: int) -> Iterator[Record | Bad]:
        """Yields every ``of``-th record, starting at index ``part``, always in the same order.

        A row that cannot become a record may be yielded as an :class:`engine.Bad`, which is counted.
        """


class Processor(Protocol):
    """Keeps, changes or drops records one by one."""

    def process(self, record: Record) -> Record | str:
        """Returns the record, changed or not, or the name of the rule that drops it."""


class TokenizerTrainer(Protocol):
    """Returned by a tokenizer's factory: trains or loads the tokenizer."""

    def __call__(self, texts: Iterable[str]) -> Any:
        """Returns a Hugging Face fast tokenizer; ``texts`` may be iterated more than once."""
