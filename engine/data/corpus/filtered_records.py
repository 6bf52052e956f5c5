"""The records of a train stage without those that its steps drop.

A record's plain text is the document that the steps get. The documents, and what each step found of
them, are in files as those of a prepare stage are: work that was broken off goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Record, Text
from engine.data.corpus.documents import found_by_last
from engine.data.corpus.executors import Means
from engine.data.corpus.parts import Part, all_documents
from engine.data.corpus.reading import read
from engine.data.corpus.steps import NamedProcessor, Progress, carried_out
from engine.data.corpus.store import Store, key_of, refused
from engine.data.plain_text import plain_text
from engine.data.records import NamedSource, Rows, unreadable
from engine.errors import RunError

_OUTCOME = "outcome"
"""The note that names the tables of what is settled."""


def filtered_rows(
    folder: Path,
    named: NamedSource,
    processors: Callable[[], Sequence[NamedProcessor]],
    progress: Progress,
    *,
    settle: bool,
) -> Rows:
    """The source's records without those that the processors drop, as files in ``folder`` say; what is
    missing there is made.

    ``settle``: what is found now stays, also when the processors find something else later, such as
    items of more benchmarks; for one process at a time. Raises RunError, also for a processor that
    replaces texts.
    """
    try:
        store = Store(folder)
        outcome = _settled(store)
        if outcome is None:
            if settle:
                store.clear()
            outcome = _carried_out(store, named, processors, progress)
            if settle:
                store.write_note(_OUTCOME, asdict(outcome))
                store.keep([_OUTCOME, *outcome.keys()])
    except OSError as error:
        raise refused(folder, error) from error
    return _FilteredRows(named, store, outcome)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The ``tables`` of each part, its documents and then what each step found of them; and what the
    steps say of all records, with their names."""

    tables: Sequence[Sequence[str]]
    summaries: Sequence[Mapping[str, Any]]

    def keys(self) -> Iterator[str]:
        """The keys of all tables."""
        return chain.from_iterable(self.tables)

    def parts(self) -> list[Part]:
        """The parts with their columns."""
        return [Part(0, documents, tuple(columns)) for documents, *columns in self.tables]


def _settled(store: Store) -> _Outcome | None:
    """What was settled; None if nothing was, or its tables are damaged."""
    note = store.note(_OUTCOME)
    if note is None:
        return None
    outcome = _Outcome(note["tables"], note["summaries"])
    return outcome if all(map(store.has, outcome.keys())) else None


def _carried_out(
    store: Store,
    named: NamedSource,
    processors: Callable[[], Sequence[NamedProcessor]],
    progress: Progress,
) -> _Outcome:
    plain = replace(
        named, source=_PlainTexts(named.source), key=key_of("plain", named.key), make=None
    )
    what = f"read {named.name}"
    keys = read(store, plain, Rows(plain), Means(), lambda n, of: progress(what, n, of + 1, ""))
    progress(what, 1, 1, "")
    parts = [Part(0, key, priority=named.priority, name=named.name) for key in keys]
    summaries = []
    for one in processors() if parts else ():
        parts = carried_out(store, parts, replace(one, make=None), progress)
        for part in parts:
            _check_texts_stay(store, part, one.name)
        if summary := one.processor.summary(found_by_last(store, parts)):
            summaries.append({"step": one.name, **summary})
    return _Outcome([[part.documents, *part.columns] for part in parts], summaries)


def _check_texts_stay(store: Store, part: Part, processor: str) -> None:
    """Raises RunError where a processor gave a text, which no record could be made of."""
    given = store.read_columns(part.columns[-1], ["text"])
    if given.num_columns and pc.any(pc.is_valid(given.column("text"))).as_py():
        raise RunError(
            f"processor '{processor}' replaces texts, but in a train stage processors can only drop "
            "records",
            hint="leave it out of the stage's `processors`, or set it to drop or to annotate",
        )


class _PlainTexts(DataSource):
    """The records of a source as documents; a row that is bad there is bad here."""

    def __init__(self, given: DataSource) -> None:
        self._given = given

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`."""
        return self._given.parts()

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`."""
        for row in self._given.records(part):
            bad = unreadable(row) if isinstance(row, Record) else None
            yield bad or (_document(row) if isinstance(row, Record) else row)

    def split(self, part: str) -> Sequence[str]:
        """See :class:`engine.DataSource`."""
        return self._given.split(part)

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`."""
        return self._given.version(part)


def _document(record: Record) -> Text:
    return Text(
        id=record.id,
        text=plain_text(record),
        source=record.source,
        license=record.license,
        meta=record.meta,
    )


class _FilteredRows(Rows):
    """Reads the records again, beside the rules that drop their documents."""

    def __init__(self, named: NamedSource, store: Store, outcome: _Outcome) -> None:
        super().__init__(named)
        self.summaries = outcome.summaries
        self._store = store
        self._parts = outcome.parts()

    def __iter__(self) -> Iterator[Record]:
        rules = self._rules()
        for record in super().__iter__():
            expected = plain_text(record)
            text, rule = next(rules, ("", None))
            while len(text) < len(expected):  # a long document was cut into pieces
                more, other = next(rules, (None, None))
                if more is None:
                    break
                text, rule = text + more, rule or other
            if text != expected:
                raise self._changed(f"record '{record.id}'")
            if rule is None:
                yield record
            else:
                self.dropped[rule] += 1
                self.first_dropped.setdefault(rule, record.id)
        if next(rules, None) is not None:
            raise self._changed("it")

    def _rules(self) -> Iterator[tuple[str, str | None]]:
        """Each document's text, and the rule that drops it."""
        for number, part in enumerate(self._parts):
            documents = all_documents(self._store, part, number)
            columns = (documents.column(name).to_pylist() for name in ("text", "drop"))
            yield from zip(*columns, strict=True)

    def _changed(self, what: str) -> RunError:
        return RunError(
            f"source '{self._named.name}': {what} has changed since the stage's processors read it",
            hint="start the stage over with --rerun",
        )
