"""A data source that mixes old records into new ones."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from engine import Bad, Context, DataSource, Record, RunError

from engine_continual.config import Replay
from engine_continual.sampling import place


class ReplaySource(DataSource):
    """Records of ``new`` in their order, and after every few of them one of ``old``."""

    def __init__(self, new: DataSource, old: DataSource, share: float, seed: int) -> None:
        self._new, self._old, self._share, self._seed = new, old, share, seed

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: those of both sources' parts."""
        return repr([[s.version(p) for p in s.parts()] for s in (self._new, self._old)])

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`; ids begin with ``new/`` or ``old/``. Holds all of them in
        memory. Raises RunError if there are too few old ones for the share."""
        new = list(_records(self._new, "new"))
        old = list(self._drawn(sum(isinstance(row, Record) for row in new)))
        taken = 0
        for number, row in enumerate(new, 1):
            yield row
            due = number * len(old) // len(new)
            yield from old[taken:due]
            taken = due

    def _drawn(self, new: int) -> Iterator[Record | Bad]:
        wanted = round(new * self._share / (1 - self._share))
        bad: list[Bad] = []
        good = _set_aside(_records(self._old, "old"), bad)
        drawn = heapq.nsmallest(wanted, good, key=lambda record: place(self._seed, record.id))
        if len(drawn) < wanted:
            raise RunError(
                f"replay: `old` has {len(drawn)} records, but a share of {self._share:g} beside "
                f"{new} new ones needs {wanted}",
                hint="lower `share`, or name a larger source",
            )
        return chain(bad, drawn)


def _records(source: DataSource, name: str) -> Iterator[Record | Bad]:
    rows = chain.from_iterable(map(source.records, source.parts()))
    return (replace(row, id=f"{name}/{row.id}") for row in rows)


def _set_aside(rows: Iterator[Record | Bad], bad: list[Bad]) -> Iterator[Record]:
    """The records; the bad rows among them go to the list."""
    for row in rows:
        if isinstance(row, Bad):
            bad.append(row)
        else:
            yield row


def build(config: Replay, context: Context) -> ReplaySource:
    """Builds the source and the two inside."""
    new, old = (context.component("data-source", source) for source in (config.new, config.old))
    return ReplaySource(new, old, config.share, context.seed)
