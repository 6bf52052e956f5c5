"""Contracts of data sources, processors, steps over a corpus, and tokenizers.

A corpus is data in parts. A step, such as deduplication, is written with two verbs: ``map`` makes a
table of each part, and ``shuffle`` brings rows with the same key together. What processors and steps
make is kept in files, so that a preparation that was broken off goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from engine.contracts.records import Bad, Record

if TYPE_CHECKING:
    import pyarrow as pa


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

    def version(self, part: str) -> str:
        """What changes with a part's content, such as the sizes and times of its files: a preparation
        that was broken off reads the part again only if it has changed."""
        return ""


class Processor:
    """Base class of processors, maps over documents: they annotate, change or drop them."""

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """Returns columns, each with a value for every document of the batch; pure.

        The batch has the columns ``id``, ``text``, ``source``, ``license``, ``url``, ``meta`` (JSON),
        and those that earlier processors gave. Two names act: ``text`` is a document's new text, and
        ``drop`` the rule that drops it, in kebab-case; null leaves the document as it is. All other
        columns are annotations.
        """
        raise NotImplementedError


class Dataset(Protocol):
    """Tables, one for each part."""

    @property
    def parts(self) -> int:
        """The number of parts."""


class Corpus(Protocol):
    """The documents that no earlier step has dropped, and the verbs."""

    @property
    def documents(self) -> Dataset:
        """Tables with a document in each row: ``part`` and ``row``, its address; ``id``, ``text``,
        ``source``, ``license``, ``url`` and ``meta`` (JSON); and the columns of earlier steps."""

    def map(self, function: Callable[..., pa.Table], *data: Dataset) -> Dataset:
        """A table of each part: what ``function``, which is pure, makes of the tables of that part. It
        is a function of a module, or a method, as its name says which results are kept.

        ``data``: as many data sets as the function takes tables, all of as many parts. Values that a
        ``functools.partial`` binds are JSON, or data sets, of which the function gets all rows.
        """

    def shuffle(self, data: Dataset, key: str) -> Dataset:
        """The same rows in other parts: all of one key in the same part, in the order that they had.

        ``key``: a column of unsigned integers, such as hashes; ``"part"`` brings rows back to the parts
        of their documents.
        """


class CorpusStep:
    """Base class of steps."""

    def run(self, corpus: Corpus) -> Dataset:
        """Returns rows in any order and parts: the addresses ``part`` and ``row`` of documents, and
        columns as a :class:`engine.Processor` gives them, with ``text`` and ``drop`` acting alike.
        Documents without a row stay as they are."""
        raise NotImplementedError


class TokenizerTrainer(Protocol):
    """Returned by a tokenizer's factory: trains or loads the tokenizer."""

    def __call__(self, texts: Iterable[str]) -> Any:
        """Returns a Hugging Face fast tokenizer; ``texts`` may be iterated more than once."""
