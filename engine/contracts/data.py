"""Contracts of data sources, processors, steps over a corpus, and tokenizers.

A corpus is data in parts. A step, such as deduplication, is written with two verbs: ``map`` makes a
table of each part, and ``shuffle`` brings rows with the same key together. What processors and steps
make is kept in files, so that a preparation that was broken off goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.contracts.records import Bad, Record

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
R = TypeVar("R")


class DataSource:
    """Base class of sources of records, which are read part by part; implement :meth:`records`.

    In a prepare stage rank 0 calls ``parts``, and ``size`` and ``version`` of each; processes of the
    executor call ``records``, and if one of them dies, rank 0 calls ``split`` of its part. In a train
    stage every rank reads all parts.
    """

    def parts(self) -> Sequence[str]:
        """The names of the parts, such as files or ranges of one, always in the same order; by default
        there is one part, without a name."""
        return ("",)

    def records(self, part: str) -> Iterator[Record | Bad]:
        """Yields the records of a part, always in the same order; ids tell all parts' records apart.

        A row that cannot become a record may be yielded as an :class:`engine.Bad`, which is counted.
        """
        raise NotImplementedError

    def split(self, part: str) -> Sequence[str]:
        """The names of smaller parts that together are this one, or of itself where it cannot be
        divided: to find a document that crashes its reader, which stops the stage where its part cannot
        be divided. ``records`` and ``version`` take each of these names."""
        return (part,)

    def version(self, part: str) -> str:
        """What changes with a part's content, such as the sizes and times of its files: a preparation
        that was broken off reads the part again only if it has changed."""
        return ""

    def size(self, part: str) -> int | None:
        """About how many bytes of text a part gives, by which a preparation says how much disk it
        needs; None where only reading tells."""
        return None


class Processor:
    """Base class of processors, maps over documents: they annotate, change or drop them. Implement
    :meth:`columns`.

    Processes of the executor call ``columns`` for each batch of a part; then rank 0 calls ``summary``.
    In a train stage, rank 0 calls both.
    """

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """Returns columns, each with a value for every document of the batch; pure.

        The batch has the columns ``id``, ``text``, ``source``, ``license``, ``url``, ``meta`` (JSON),
        and those that earlier processors gave. Two names act: ``text`` is a document's new text, and
        ``drop`` the rule that drops it, in kebab-case; null leaves the document as it is. All other
        columns are annotations.
        """
        raise NotImplementedError

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """What the corpus's card says of the processor, as plain data; nothing by default.

        ``found``: tables of the documents for which it gave something, with ``id``, ``source`` and the
        processor's own columns. ``decided_by``, if it is among what is said, names for a rule by which
        documents fall the list of columns that decide; the card's samples show these.
        """
        return {}


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
        ``source``, its name in the spec; ``license``, ``url`` and ``meta`` (JSON); ``priority``, its
        source's: of two copies that of the higher stays; and the columns of earlier steps."""

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
    """Base class of steps over a whole corpus; implement :meth:`run`.

    Rank 0 calls ``run`` and then ``summary``; processes of the executor call the functions that ``run``
    maps.
    """

    def run(self, corpus: Corpus) -> Dataset:
        """Returns rows in any order and parts: the addresses ``part`` and ``row`` of documents, and
        columns as a :class:`engine.Processor` gives them, with ``text`` and ``drop`` acting alike.
        Documents without a row stay as they are."""
        raise NotImplementedError

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """See :meth:`Processor.summary`."""
        return {}


@dataclass(frozen=True, slots=True)
class Lost:
    """A call whose process died, such as by a signal or for want of memory: ``why`` it did."""

    why: str


class Executor:
    """Base class of executors, which call functions, perhaps in other processes or on other machines
    that have the run's folder. Implement :meth:`run`.

    Rank 0 calls ``run`` several times in each step of a prepare stage, and ``close`` at its end.
    """

    isolated: bool = True
    """Whether a call may take its process with it without harm to the engine."""

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R | Lost]]:
        """Calls a function for each task, and yields the task's number and the result as calls end.

        Function, tasks and results can be pickled. Raises what the function raises, and then begins no
        further call.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Ends its processes."""


class TokenizerTrainer(Protocol):
    """Returned by a tokenizer's factory: trains or loads the tokenizer.

    Rank 0 calls it once, when all processors and steps are done.
    """

    def __call__(self, texts: Iterable[str]) -> Any:
        """Returns a Hugging Face fast tokenizer. ``texts``: the documents for training, without those
        held out; they may be iterated more than once."""
