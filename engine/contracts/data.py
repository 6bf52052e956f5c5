"""Contracts of data sources, processors and tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from engine.contracts.records import Bad, Record


class DataSource:
    """Base class of sources of records, which are read part by part, perhaps by several processes."""

    def parts(self) -> Sequence[str]:
        """The names of the parts, such as files or ranges of one, always in the same order; by default
        there is one part, without a name."""
        return ("",)

    def records(self, part: str) -> Iterator[Record | Bad]:
        """Yields the records of a part, always in the same order; ids tell all parts' records apart.

        A row that cannot become a record may be yielded as an :class:`engine.Bad`, which is counted.
        """
        raise NotImplementedError


class Processor(Protocol):
    """Keeps, changes or drops records one by one."""

    def process(self, record: Record) -> Record | str:
        """Returns the record, changed or not, or the name of the rule that drops it."""


class TokenizerTrainer(Protocol):
    """Returned by a tokenizer's factory: trains or loads the tokenizer."""

    def __call__(self, texts: Iterable[str]) -> Any:
        """Returns a Hugging Face fast tokenizer; ``texts`` may be iterated more than once."""
