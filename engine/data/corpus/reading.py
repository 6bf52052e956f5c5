"""Reads sources into tables of documents, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from engine.contracts.data import DataSource, Lost
from engine.contracts.records import Bad, Record, Text
from engine.data.corpus.columns import LOST
from engine.data.corpus.executors import Means
from engine.data.corpus.parts import table_of
from engine.data.corpus.store import Store, key_of
from engine.data.pieces import pieces_of
from engine.data.records import NamedSource, Rows, Say
from engine.deadline import last_resort
from engine.errors import RunError

_PART = 16 * 2**20
"""Characters of documents that make a table."""
Note = dict[str, Any]
"""Of a part that was read: the ``keys`` of its tables, the number of rows ``read``, in which a document
that was cut counts as its pieces, the number of ``bad`` ones by reason, and the ``first`` of them."""


@dataclass
class _Reading:
    """Reads a part, in any process."""

    store: Store
    named: NamedSource
    make: Callable[[Say], DataSource]
    seconds: float | None
    said: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    @cached_property
    def _source(self) -> NamedSource:
        return replace(self.named, source=self.make(self._say))

    def _say(self, event: str, message: str, **fields: Any) -> None:
        self.said.append((event, message, fields))

    def __call__(self, task: tuple[str, str]) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Reads a part under a key, and returns what the source has said."""
        key, part = task
        rows = Rows(self._source, part)
        keys: list[str] = []
        waiting: list[Text] = []
        size = 0

        def write() -> None:
            keys.append(key_of(key, len(keys)))
            self.store.write(keys[-1], table_of(waiting))
            waiting.clear()

        records = iter(rows)
        while (record := self._next(records)) is not None:
            if not isinstance(record, Text):
                raise _no_text(record)
            for number, piece in enumerate(pieces_of(record, [record.text])):
                waiting.append(piece)
                size += len(piece.text)
                rows.read += number > 0  # from here on each piece counts as a document
                if size >= _PART:
                    write()
                    size = 0
        write()
        self.store.write_note(key, _note(keys, rows.read, rows.bad, rows.first))
        return self.said

    def _next(self, records: Any) -> Record | None:
        with last_resort(self.seconds):
            record: Record | None = next(records, None)
            return record


def read(
    store: Store, named: NamedSource, rows: Rows, means: Means, tell: Callable[[int, int], None]
) -> list[str]:
    """The keys of a source's tables, which are read where they are missing; ``rows`` counts what was
    read, and ``tell`` hears how many parts of how many are done. Raises RunError."""
    if named.make is None:
        means = means.here()
    source = named.source
    sent = NamedSource(named.name, DataSource(), named.bad, named.key)
    work = _Reading(store, sent, named.make or (lambda say: source), means.limit)
    parts = rows.parts()
    notes: dict[str, Note] = {}
    missing = []
    for part in parts:
        note = _kept(store, _key(named, rows, part))
        if note is None:
            missing.append(part)
        else:
            notes[part] = note
    _read_missing(work, named, rows, means, missing, notes, lambda done: tell(done, len(missing)))
    for part in parts:
        note = notes[part]
        rows.add(note["read"], note["bad"], [Bad(**bad) for bad in note["first"]])
    rows.check()
    return [key for part in parts for key in notes[part]["keys"]]


def _read_missing(
    work: _Reading,
    named: NamedSource,
    rows: Rows,
    means: Means,
    missing: Sequence[str],
    notes: dict[str, Note],
    tell: Callable[[int], None],
) -> None:
    """Reads parts; one that a process is lost to is read by smaller parts, of which the smallest one
    counts as a bad row. Raises RunError for a part that its source cannot divide."""
    store = work.store
    todo = list(missing)
    smaller: dict[str, Sequence[str]] = {}
    while todo:
        tasks = [(_key(named, rows, part), part) for part in todo]
        again: list[str] = []
        for number, outcome in means.executor.run(work, tasks):
            key, part = tasks[number]
            if isinstance(outcome, Lost):
                divided = rows.split(part)
                if list(divided) != [part]:
                    smaller[part] = divided
                    again += [one for one in divided if not _found(store, named, rows, one, notes)]
                    continue
                if part in missing:
                    raise _undivided(named, part, outcome)
                bad = Bad(part or named.name, LOST, f"its reader was lost: {outcome.why}")
                store.write(key_of(key, 0), table_of([]))
                store.write_note(key, _note([key_of(key, 0)], 1, {LOST: 1}, [bad]))
            else:
                for event, message, fields in outcome:
                    named.say(event, message, **fields)
            note = store.note(key)
            assert note is not None, "it has just been written"
            for one in note["keys"]:
                store.trust(one)
            notes[part] = note
            tell(len(notes))
        todo = again
    for part in reversed(smaller):
        notes[part] = _joined([notes[one] for one in smaller[part]])


def _found(store: Store, named: NamedSource, rows: Rows, part: str, notes: dict[str, Note]) -> bool:
    """Whether a part was read before; then its note is among ``notes``."""
    note = _kept(store, _key(named, rows, part))
    if note is None:
        return False
    notes[part] = note
    return True


def _kept(store: Store, key: str) -> Note | None:
    """The note of a part that was read and whose tables are whole."""
    note = store.note(key)
    return note if note is not None and all(map(store.has, note["keys"])) else None


def _key(named: NamedSource, rows: Rows, part: str) -> str:
    return key_of("documents", named.key, named.name, part, rows.version(part))


def _note(keys: Sequence[str], read: int, bad: Mapping[str, int], first: Iterable[Bad]) -> Note:
    return {"keys": keys, "read": read, "bad": dict(bad), "first": [asdict(one) for one in first]}


def _joined(notes: Sequence[Note]) -> Note:
    """The note of a part, from those of the smaller parts that are it."""
    bad: dict[str, int] = {}
    for note in notes:
        for reason, count in note["bad"].items():
            bad[reason] = bad.get(reason, 0) + count
    return {
        "keys": [key for note in notes for key in note["keys"]],
        "read": sum(note["read"] for note in notes),
        "bad": bad,
        "first": [one for note in notes for one in note["first"]],
    }


def _undivided(named: NamedSource, part: str, lost: Lost) -> RunError:
    """A whole part is too much to leave out in silence."""
    return RunError(
        f"source '{named.name}': its reader was lost at part '{part}': {lost.why}",
        hint="run it again with more memory or fewer processes, or leave that part out",
    )


def _no_text(record: Record) -> RunError:
    return RunError(
        f"record '{record.id}' of '{record.source}' is {record.schema}, but prepare takes text",
        hint="give such records to a train stage as its `data`, or say `records: text`",
    )
