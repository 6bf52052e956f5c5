"""Training examples by global index: a mixture's order over the sources' examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from engine.component import Example
from engine.data.mixture import Mixture
from engine.data.packing import Windows
from engine.data.shards import Shards
from engine.errors import RunError

if TYPE_CHECKING:
    from engine.config import Amount

Ranges = Sequence[tuple[int, int]]
"""Half-open ranges of global indices."""


_MOST = 1 << 24
"""Rows that a process takes at once."""


class WindowExamples(Sequence[Example]):
    """Windows over a source's tokens, as examples of the objective that reads token streams."""

    def __init__(self, folder: Path, sequence: int) -> None:
        self._windows = Windows(Shards.open(folder), sequence)
        self._sequence = sequence

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        row = self._windows[index]
        return Example(self._sequence, asdict(row))


class TrainingData:
    """Examples in the order of a mixture; ``excluded`` ranges of global indices are left out."""

    def __init__(self, mixture: Mixture, sources: Sequence[Sequence[Example]]) -> None:
        self.mixture = mixture
        self._sources = sources

    @property
    def epoch_size(self) -> int:
        """Examples of all sources that have a weight."""
        return self.mixture.epoch_size

    def examples(self, limit: int | None = None) -> list[Example]:
        """The first of every source, or all."""
        return [example for source in self._sources for example in islice(source, limit)]

    def end(self, budget: Amount) -> int:
        """The global index at which a budget ends that counts epochs; else where the data does.

        Raises RunError where the data ends before.
        """
        length = len(self.mixture)
        if budget.unit != "epochs":
            return length
        end = self.mixture.samples(budget.value)
        if end > length:
            raise RunError(
                f"a budget of {budget} is {end:,} rows, and the data ends after {length:,}: all "
                "sources have then reached max_epochs",
                mend="raise max_epochs, or lower the budget",
            )
        return end

    def left(self, cursor: int, excluded: Ranges, end: int | None = None) -> int:
        """How many examples there are from the cursor on, of all or of those before ``end``."""
        return sum(b - a for a, b in self._stretches(cursor, excluded, end))

    def left_out(self, cursor: int, excluded: Ranges) -> int:
        """How many examples before the cursor are excluded."""
        return cursor - self.left(0, excluded, cursor)

    def take(
        self, cursor: int, count: int, excluded: Ranges, part: int, of: int
    ) -> tuple[list[Example], int]:
        """``part`` of the next ``count`` examples, and the cursor after all of them and what is
        excluded there.

        Raises RunError where fewer are :meth:`left`, or a part is too large to be held in memory.
        """
        if count // of > _MOST:
            raise RunError(
                f"a step of {count:,} rows on {of} processes, each of which holds at most {_MOST:,}",
                mend="lower `batch.tokens` or `batch.examples`",
            )
        wanted: list[Example] = []
        taken = 0
        for start, end in self._stretches(cursor, excluded):
            n = min(count - taken, end - start)
            for place, sample in enumerate(self.mixture.batch(start, n), taken):
                if place % of == part:
                    wanted.append(self._sources[sample.source][sample.index])
            taken += n
            if taken == count:
                return wanted, self.after(start + n, excluded)
        raise RunError(
            f"the data ends after {len(self.mixture):,} rows: all sources have reached max_epochs",
            mend="raise max_epochs, or lower the budget",
        )

    def after(self, cursor: int, excluded: Ranges) -> int:
        """The cursor behind what is excluded from it on."""
        return next((start for start, _ in self._stretches(cursor, excluded)), len(self.mixture))

    def _stretches(
        self, cursor: int, excluded: Ranges, end: int | None = None
    ) -> Iterator[tuple[int, int]]:
        """What the excluded ranges leave from the cursor on, up to ``end``."""
        length = len(self.mixture)
        if end is not None:
            length = min(end, length)
        for start, stop in [*sorted(excluded), (length, length)]:
            if cursor < min(start, length):
                yield cursor, min(start, length)
            cursor = max(cursor, stop)
