"""Training examples by global index: the examples of the sources in a mixture's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from engine.contracts.batch import Example
from engine.data.mixture import Mixture
from engine.errors import RunError

if TYPE_CHECKING:
    from engine.contracts.amounts import Amount

Ranges = Sequence[tuple[int, int]]
"""Half-open ranges of global indices."""


_MOST = 1 << 24
"""Largest number of rows that a process holds at once."""


class TrainingData:
    """Examples in the order of a mixture; skips ``excluded`` ranges of global indices."""

    def __init__(self, mixture: Mixture, sources: Sequence[Sequence[Example]]) -> None:
        self.mixture = mixture
        self._sources = sources

    @property
    def epoch_size(self) -> int:
        """Number of examples of all sources with a weight above 0."""
        return self.mixture.epoch_size

    def examples(self, limit: int | None = None) -> list[Example]:
        """The first ``limit`` examples of every source, or all."""
        return [example for source in self._sources for example in islice(source, limit)]

    def end(self, budget: Amount) -> int:
        """The global index at which a budget in epochs ends; for other budgets, the end of the data.

        Raises RunError if the data ends earlier.
        """
        length = len(self.mixture)
        if budget.unit != "epochs":
            return length
        end = self.mixture.samples(budget.value)
        if end > length:
            raise RunError(
                f"a budget of {budget} is {end:,} rows, but the data ends after {length:,}: all "
                "sources have then reached max_epochs",
                hint="raise max_epochs, or lower the budget",
            )
        return end

    def left(self, cursor: int, excluded: Ranges, end: int | None = None) -> int:
        """Number of examples from the cursor on (up to ``end``) that are not excluded."""
        return sum(stop - start for start, stop in self._included(cursor, excluded, end))

    def left_out(self, cursor: int, excluded: Ranges) -> int:
        """Number of excluded examples before the cursor."""
        return cursor - self.left(0, excluded, cursor)

    def take(
        self, cursor: int, count: int, excluded: Ranges, part: int, of: int
    ) -> tuple[list[Example], int]:
        """Every ``of``-th of the next ``count`` examples, starting at index ``part``, and the cursor of
        the next example after them that is not excluded.

        Raises RunError if fewer than ``count`` are :meth:`left`, or a part does not fit in memory.
        """
        if count // of > _MOST:
            raise RunError(
                f"a step of {count:,} rows on {of} processes, each of which holds at most {_MOST:,}",
                hint="lower `batch.tokens` or `batch.examples`",
            )
        wanted: list[Example] = []
        taken = 0
        for start, end in self._included(cursor, excluded):
            size = min(count - taken, end - start)
            for position, sample in enumerate(self.mixture.batch(start, size), taken):
                if position % of == part:
                    wanted.append(self._sources[sample.source][sample.index])
            taken += size
            if taken == count:
                return wanted, self.after(start + size, excluded)
        raise RunError(
            f"the data ends after {len(self.mixture):,} rows: all sources have reached max_epochs",
            hint="raise max_epochs, or lower the budget",
        )

    def after(self, cursor: int, excluded: Ranges) -> int:
        """The first index from the cursor on that is not excluded."""
        return next((start for start, _ in self._included(cursor, excluded)), len(self.mixture))

    def _included(
        self, cursor: int, excluded: Ranges, end: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """The ranges from the cursor up to ``end`` that are not excluded."""
        length = len(self.mixture)
        if end is not None:
            length = min(end, length)
        for start, stop in [*sorted(excluded), (length, length)]:
            if cursor < min(start, length):
                yield cursor, min(start, length)
            cursor = max(cursor, stop)
