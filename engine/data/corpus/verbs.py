"""The verbs of steps that see a whole corpus: see :class:`engine.Corpus`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from engine.contracts.data import Dataset, Executor, Lost
from engine.data.corpus.executors import InProcess
from engine.data.corpus.parts import Part, kept_documents, named_source, scattered
from engine.data.corpus.store import Store, key_of
from engine.errors import RunError


@dataclass(frozen=True, slots=True)
class Tables:
    """A data set: the keys of its tables."""

    keys: tuple[str, ...]

    @property
    def parts(self) -> int:
        """See :class:`engine.Dataset`."""
        return len(self.keys)


class PartedCorpus:
    """A corpus in files. ``key`` names the step that works on it; ``tell`` hears after each table how
    many of how many a verb has made."""

    def __init__(
        self,
        store: Store,
        parts: Sequence[Part],
        key: str,
        tell: Callable[[int, int], None],
        executor: Executor | None = None,
    ) -> None:
        self._parts = parts
        self._key = key
        self._tell = tell
        self._executor = executor or InProcess()
        # A table of documents has the number of its part, which may have been another one before.
        numbered = {
            key_of(p.key, number, p.priority, p.name): number for number, p in enumerate(parts)
        }
        self._files = _Files(store, parts, numbered)
        self.documents = Tables(tuple(numbered))

    def map(self, function: Callable[..., pa.Table], *data: Dataset) -> Tables:
        """See :class:`engine.Corpus`."""
        given = [_tables(one) for one in data]
        told = _told(function)
        called = key_of(told)
        keys = [
            key_of("map", self._key, called, *keys)
            for keys in zip(*(one.keys for one in given), strict=True)
        ]
        tables = [tuple(one.keys[number] for one in given) for number in range(len(keys))]
        work = _Map(self._files, function, told["function"])
        self._make(work, list(zip(keys, tables, strict=True)))
        return Tables(tuple(keys))

    def shuffle(self, data: Dataset, key: str) -> Tables:
        """See :class:`engine.Corpus`."""
        given = _tables(data)
        count = len(self._parts) if key == "part" else given.parts
        cut = tuple(key_of("cut", self._key, key, count, one) for one in given.keys)
        made = tuple(key_of("gathered", number, *cut) for number in range(count))
        if not all(map(self._files.store.has, made)):
            self._make(
                partial(_cut, self._files, key, count), list(zip(cut, given.keys, strict=True))
            )
        self._make(partial(_gather, self._files, cut), [(n, i) for i, n in enumerate(made)])
        return Tables(made)

    def tables(self, data: Tables) -> Iterator[pa.Table]:
        """The tables of a data set, one after the other."""
        return map(self._files.read, data.keys)

    def with_columns(self, rows: Dataset) -> list[Part]:
        """The parts, each with its columns from these rows, which are addresses and columns."""
        back = self.shuffle(rows, "part")
        pairs = [(p.documents, key) for p, key in zip(self._parts, back.keys, strict=True)]
        names = [key_of("columns", *pair) for pair in pairs]
        self._make(partial(_scatter, self._files), list(zip(names, pairs, strict=True)))
        return [part.with_columns(key) for part, key in zip(self._parts, names, strict=True)]

    def _make(
        self, work: Callable[[tuple[str, Any]], None], tasks: Sequence[tuple[str, Any]]
    ) -> None:
        """Makes the tables that are missing, each of a name and what it is made of."""
        store = self._files.store
        missing = [task for task in tasks if not store.has(task[0])]
        done = len(tasks) - len(missing)
        for number, outcome in self._executor.run(work, missing):
            if isinstance(outcome, Lost):
                raise RunError(
                    f"a process was lost at part {number} of a step: {outcome.why}",
                    hint="where memory ran out, give the executor fewer processes; then run it again",
                )
            store.trust(missing[number][0])
            done += 1
            self._tell(done, len(tasks))


@dataclass(frozen=True)
class _Files:
    """Reads tables, in any process; ``numbered``: numbers of parts by the keys of their documents."""

    store: Store
    parts: Sequence[Part]
    numbered: Mapping[str, int]

    def read(self, key: str) -> pa.Table:
        number = self.numbered.get(key)
        if number is None:
            return self.store.read(key)
        part = self.parts[number]
        documents = named_source(kept_documents(self.store, part, number), part)
        priority = np.full(documents.num_rows, part.priority, np.int64)
        return documents.append_column("priority", pa.array(priority))

    def whole(self, value: Any) -> Any:
        """All rows of a data set; any other value as it is."""
        if not isinstance(value, Tables):
            return value
        return pa.concat_tables(map(self.read, value.keys), promote_options="default")


@dataclass
class _Map:
    files: _Files
    function: Callable[..., pa.Table]
    name: str

    @cached_property
    def _bound(self) -> Callable[..., pa.Table]:
        """The function, with all rows of data sets that are bound to it."""
        if not isinstance(self.function, partial):
            return self.function
        whole = self.files.whole
        named = {k: whole(v) for k, v in self.function.keywords.items()}
        return partial(self.function.func, *map(whole, self.function.args), **named)

    def __call__(self, task: tuple[str, Sequence[str]]) -> None:
        key, given = task
        tables = [self.files.read(one) for one in given]
        made = self._bound(*tables) if any(t.num_rows for t in tables) else pa.table({})
        if not isinstance(made, pa.Table):
            raise TypeError(f"{self.name} gave {made!r:.60}, which is not a pa.Table")
        self.files.store.write(key, made)


def _cut(files: _Files, key: str, count: int, task: tuple[str, str]) -> None:
    """Writes the rows of a table in pieces, one for each of so many parts."""
    name, given = task
    table = files.read(given)
    if not table.num_rows:  # perhaps without columns
        files.store.write(name, *[table] * count)
        return
    found = table.column(key).to_numpy().astype(np.uint64) % np.uint64(count)
    order = np.argsort(found, kind="stable")
    ends = np.cumsum(np.bincount(found.astype(np.int64), minlength=count))
    rows = table.take(pa.array(order))
    bounds = zip([0, *ends[:-1]], ends, strict=True)
    files.store.write(name, *(rows.slice(start, end - start) for start, end in bounds))


def _gather(files: _Files, cut: Sequence[str], task: tuple[str, int]) -> None:
    """Writes the pieces of one number together."""
    name, number = task
    pieces = [files.store.read_piece(one, number) for one in cut]
    files.store.write(name, pa.concat_tables(pieces, promote_options="default"))


def _scatter(files: _Files, task: tuple[str, tuple[str, str]]) -> None:
    """Writes the columns of a part's documents."""
    name, (documents, found) = task
    columns = scattered(files.store.read(found), files.store.rows(documents))
    files.store.write(name, columns)


def _told(function: Callable[..., pa.Table]) -> dict[str, Any]:
    """What a function's results depend on, as plain data."""
    if isinstance(function, partial):
        named = {k: _plain(v) for k, v in function.keywords.items()}
        bound = {"given": [_plain(v) for v in function.args], "named": named}
        return {**_told(function.func), **bound}
    called = f"{function.__module__}.{function.__qualname__}"
    if "<" in called:  # two of the same name would be taken for one
        raise TypeError(f"{called} is no function of a module; bind values by functools.partial")
    return {"function": called}


def _tables(data: Dataset) -> Tables:
    if not isinstance(data, Tables):
        raise TypeError(f"{data!r:.60} is no data set of this corpus")
    return data


def _plain(value: Any) -> Any:
    return {"tables": value.keys} if isinstance(value, Tables) else value
