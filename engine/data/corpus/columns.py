"""Applies a processor to the documents of parts.

A document that ends the process that works on it, or takes too long, is found by taking the batch that
was worked on by single documents, and is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.contracts.data import Lost, Processor
from engine.data.corpus.executors import Means
from engine.data.corpus.parts import ADDRESS, Part, kept_documents, scattered
from engine.data.corpus.store import Store, key_of
from engine.data.pieces import LONGEST
from engine.data.records import blaming
from engine.deadline import last_resort
from engine.errors import RunError

LOST = "crashed-or-too-slow"
"""The rule for documents that a process was lost to."""
_BATCH = 1000
"""Documents that a processor gets at once,"""
_CHARACTERS = LONGEST
"""but no more than about so many characters."""
_MOST_LOST = 10
"""Documents of a processor that may be lost before it is blamed itself."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a part, from ``start`` up to ``end``; all of them by default. ``single``: one after the
    other, as a process was lost among them."""

    part: int
    start: int = 0
    end: int | None = None
    single: bool = False


@dataclass
class _Mapped:
    """Makes the table of a piece, in any process."""

    store: Store
    parts: Sequence[Part]
    keys: Sequence[str]
    name: str
    make: Callable[[], Processor]
    seconds: float | None

    @cached_property
    def _processor(self) -> Processor:
        return self.make()

    def __call__(self, piece: Piece) -> None:
        with blaming(f"processor '{self.name}'"):
            part = self.parts[piece.part]
            documents = kept_documents(self.store, part, piece.part)
            if piece.end is None:
                columns = scattered(self._found(piece, documents), self.store.rows(part.documents))
            else:
                rows = documents.column("row")
                among = pc.and_(pc.greater_equal(rows, piece.start), pc.less(rows, piece.end))
                columns = self._found(piece, documents.filter(among))
            self.store.write(self.key(piece), columns)

    def key(self, piece: Piece) -> str:
        """The key of a piece's table."""
        key = self.keys[piece.part]
        return key if piece.end is None else key_of(key, piece.start, piece.end)

    def _found(self, piece: Piece, documents: pa.Table) -> pa.Table:
        """What the processor finds, with the addresses of the documents."""
        found = [documents.select(ADDRESS).slice(0, 0)]
        for batch in batches(documents, 1 if piece.single else _BATCH):
            if self.seconds is not None:
                rows = batch.column("row")
                self.store.mark(self.key(piece), f"{rows[0].as_py()} {rows[-1].as_py() + 1}")
            with last_resort(self.seconds):
                columns = self._processor.columns(batch.drop_columns(list(ADDRESS)))
            for name, values in columns.items():
                _check(name, values, batch.num_rows)
            addresses = {name: batch.column(name) for name in ADDRESS}
            found.append(pa.table({**columns, **addresses}))
        return pa.concat_tables(found, promote_options="permissive")


def mapped(
    store: Store,
    parts: Sequence[Part],
    keys: Sequence[str],
    name: str,
    make: Callable[[], Processor],
    means: Means,
    tell: Callable[[int, int], None],
) -> None:
    """Writes the table of columns of each part where it is missing; ``make`` makes the processor, and
    ``tell`` hears how many of how many are done. Raises RunError."""
    work = _Mapped(store, parts, keys, name, make, means.limit)
    missing = [number for number, key in enumerate(keys) if not store.has(key)]
    todo = [Piece(number) for number in missing]
    apart: dict[int, list[Piece]] = defaultdict(list)
    lost: dict[int, list[int]] = defaultdict(list)
    done = 0
    while todo:
        pieces, todo = todo, []
        for number, outcome in means.executor.run(work, pieces):
            piece = pieces[number]
            if not isinstance(outcome, Lost):
                store.trust(work.key(piece))
                if piece.end is not None:
                    apart[piece.part].append(piece)
                done += piece.end is None
                tell(done, len(missing))
                continue
            smaller, row = _smaller(
                piece, store.marked(work.key(piece)), store.rows(parts[piece.part].documents)
            )
            if row is not None:
                lost[piece.part].append(row)
                _check_lost(name, store, parts, lost, outcome)
            apart[piece.part] += []
            todo += [one for one in smaller if not store.has(work.key(one))]
            apart[piece.part] += [one for one in smaller if store.has(work.key(one))]
    for number, pieces in apart.items():
        tables = [store.read(work.key(piece)) for piece in pieces]
        rows = lost[number]
        dropped: Mapping[str, Any] = {
            "part": pa.array([number] * len(rows), pa.int32()),
            "row": pa.array(rows, pa.int64()),
            "drop": pa.array([LOST] * len(rows), pa.string()),
        }
        found = pa.concat_tables([*tables, pa.table(dropped)], promote_options="permissive")
        store.write(keys[number], scattered(found, store.rows(parts[number].documents)))


def _smaller(piece: Piece, mark: str, rows: int) -> tuple[list[Piece], int | None]:
    """The pieces that a lost one is tried again by, and the row that is to blame if it was alone."""
    new = partial(Piece, piece.part)
    end = rows if piece.end is None else piece.end
    if not mark:  # lost before any document, perhaps to somebody who killed it
        half = (piece.start + end) // 2
        if half == piece.start:
            return [], piece.start
        return [new(piece.start, half, piece.single), new(half, end, piece.single)], None
    first, after = map(int, mark.split())
    alone = (
        piece.single
    )  # a batch of one is tried once more, as somebody may have killed its process
    among = [] if alone else [new(first, after, True)]
    around = [new(piece.start, first, piece.single), *among, new(after, end, piece.single)]
    return [one for one in around if one.start < (one.end or 0)], first if alone else None


def _check_lost(
    name: str, store: Store, parts: Sequence[Part], lost: Mapping[int, list[int]], why: Lost
) -> None:
    """Raises RunError where a processor loses one document after the other."""
    count = sum(map(len, lost.values()))
    documents = sum(store.rows(part.documents) for part in parts)
    if count <= max(_MOST_LOST, documents // 100):
        return
    ids = [
        str(store.read(parts[number].documents).column("id")[row])
        for number, rows in lost.items()
        for row in rows
    ]
    raise RunError(
        f"processor '{name}' loses its process again and again ({why.why}), to documents "
        f"{', '.join(ids[:_MOST_LOST])} …",
        hint="mend it, or give its documents more `seconds_per_document`",
    )


def batches(documents: pa.Table, most: int) -> Iterator[pa.RecordBatch]:
    """The documents in order, at most so many at once."""
    for batch in documents.combine_chunks().to_batches(max_chunksize=most):
        sizes = pc.cumulative_sum(pc.binary_length(batch.column("text"))).to_numpy()
        start = 0
        while start < batch.num_rows:
            before = sizes[start - 1] if start else 0
            end = max(start + 1, int(sizes.searchsorted(before + _CHARACTERS, "right")))
            yield batch.slice(start, end - start)
            start = end


def _check(name: str, values: object, count: int) -> None:
    """Raises TypeError where a processor gave no array of so many values, or an address."""
    if name in ADDRESS:
        raise TypeError(f"it gave '{name}', a name that the engine uses itself")
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        raise TypeError(f"it gave {values!r:.60} as '{name}', which is not a pa.Array")
    if len(values) != count:
        raise TypeError(f"it gave {len(values)} values of '{name}' for {count} documents")
