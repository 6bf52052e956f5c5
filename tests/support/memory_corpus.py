"""A corpus in memory, which shows all columns that a step gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Tables:
    """A data set."""

    tables: tuple[pa.Table, ...]

    @property
    def parts(self) -> int:
        """See :class:`engine.Dataset`."""
        return len(self.tables)

    def whole(self) -> pa.Table:
        """All rows in one table."""
        return pa.concat_tables(self.tables, promote_options="default")


class MemoryCorpus:
    """Verbs of a corpus over tables in memory; an empty table has no columns, as in a run."""

    def __init__(self, documents: Sequence[pa.Table]) -> None:
        self.documents = Tables(tuple(documents))

    def map(self, function: Callable[..., pa.Table], *data: Tables) -> Tables:
        """See :class:`engine.Corpus`."""
        if bound := getattr(function, "keywords", {}):
            whole = {k: v.whole() for k, v in bound.items() if isinstance(v, Tables)}
            function = type(function)(function, **whole)
        rows = zip(*(one.tables for one in data), strict=True)
        made = [function(*row) if any(t.num_rows for t in row) else pa.table({}) for row in rows]
        return Tables(tuple(made))

    def shuffle(self, data: Tables, key: str) -> Tables:
        """See :class:`engine.Corpus`."""
        joined = data.whole()
        if not joined.num_rows:
            return Tables((joined,) * data.parts)
        of = joined.column(key).to_numpy().astype(np.uint64) % np.uint64(data.parts)
        return Tables(tuple(joined.filter(pa.array(of == part)) for part in range(data.parts)))
