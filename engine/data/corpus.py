"""The verbs of steps that see a whole corpus: see :class:`engine.Corpus`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from engine.contracts.data import Dataset
from engine.data.parts import Part, kept_documents, scattered
from engine.data.store import Store, key_of


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
        self, store: Store, parts: Sequence[Part], key: str, tell: Callable[[int, int], None]
    ) -> None:
        self._store = store
        self._parts = parts
        self._key = key
        self._tell = tell
        # A table of documents has the number of its part, which may have been another one before.
        self._kept = {key_of(part.key, number): number for number, part in enumerate(parts)}
        self.documents = Tables(tuple(self._kept))

    def map(self, function: Callable[..., pa.Table], *data: Dataset) -> Tables:
        """See :class:`engine.Corpus`."""
        given = [_tables(one) for one in data]
        told = self._told(function)
        keys = [
            key_of("map", self._key, told, *keys)
            for keys in zip(*(one.keys for one in given), strict=True)
        ]
        bound: Callable[..., pa.Table] | None = None
        for number, key in enumerate(keys):
            if not self._store.has(key):
                bound = bound or self._bound(function)
                tables = [self._read(one.keys[number]) for one in given]
                made = bound(*tables) if any(t.num_rows for t in tables) else pa.table({})
                if not isinstance(made, pa.Table):
                    raise TypeError(
                        f"{told['function']} gave {made!r:.60}, which is not a pa.Table"
                    )
                self._store.write(key, made)
            self._tell(number + 1, len(keys))
        return Tables(tuple(keys))

    def shuffle(self, data: Dataset, key: str) -> Tables:
        """See :class:`engine.Corpus`."""
        given = _tables(data)
        count = len(self._parts) if key == "part" else given.parts
        cut = [key_of("cut", self._key, key, count, one) for one in given.keys]
        for one, name in zip(given.keys, cut, strict=True):
            if not self._store.has(name):
                self._store.write(name, *_cut(self._read(one), key, count))
        made = [key_of("gathered", number, *cut) for number in range(count)]
        for number, name in enumerate(made):
            if not self._store.has(name):
                pieces = [self._store.read_piece(one, number) for one in cut]
                self._store.write(name, pa.concat_tables(pieces, promote_options="default"))
            self._tell(number + 1, count)
        return Tables(tuple(made))

    def with_columns(self, rows: Dataset) -> list[Part]:
        """The parts, each with its columns from these rows, which are addresses and columns."""
        back = self.shuffle(rows, "part")
        parts = []
        for part, key in zip(self._parts, back.keys, strict=True):
            name = key_of("columns", part.documents, key)
            if not self._store.has(name):
                count = self._store.rows(part.documents)
                self._store.write(name, scattered(self._store.read(key), count))
            parts.append(part.with_columns(name))
        return parts

    def _read(self, key: str) -> pa.Table:
        number = self._kept.get(key)
        if number is None:
            return self._store.read(key)
        return kept_documents(self._store, self._parts[number], number)

    def _told(self, function: Callable[..., pa.Table]) -> dict[str, Any]:
        """What a function's results depend on, as plain data."""
        if isinstance(function, partial):
            named = {k: _plain(v) for k, v in function.keywords.items()}
            bound = {"given": [_plain(v) for v in function.args], "named": named}
            return {**self._told(function.func), **bound}
        called = f"{function.__module__}.{function.__qualname__}"
        if "<" in called:  # two of the same name would be taken for one
            raise TypeError(
                f"{called} is no function of a module; bind values by functools.partial"
            )
        return {"function": called}

    def _bound(self, function: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
        """The function, with all rows of data sets that are bound to it."""
        if not isinstance(function, partial):
            return function
        named = {k: self._whole(v) for k, v in function.keywords.items()}
        return partial(function.func, *map(self._whole, function.args), **named)

    def _whole(self, value: Any) -> Any:
        if not isinstance(value, Tables):
            return value
        return pa.concat_tables(map(self._read, value.keys), promote_options="default")


def _cut(table: pa.Table, key: str, count: int) -> list[pa.Table]:
    """The rows of each of so many parts."""
    if not table.num_rows:  # perhaps without columns
        return [table] * count
    found = table.column(key).to_numpy().astype(np.uint64) % np.uint64(count)
    order = np.argsort(found, kind="stable")
    ends = np.cumsum(np.bincount(found.astype(np.int64), minlength=count))
    rows = table.take(pa.array(order))
    return [rows.slice(a, b - a) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _tables(data: Dataset) -> Tables:
    if not isinstance(data, Tables):
        raise TypeError(f"{data!r:.60} is no data set of this corpus")
    return data


def _plain(value: Any) -> Any:
    return {"tables": value.keys} if isinstance(value, Tables) else value
