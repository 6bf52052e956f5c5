"""Training examples by global index: a mixture's order over the sources' examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from engine.component import Example
from engine.data.mixture import Mixture
from engine.data.packing import Windows
from engine.data.shards import Shards


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
    """Examples in the order of a mixture; ``excluded`` index ranges are left out."""

    def __init__(self, mixture: Mixture, sources: Sequence[Sequence[Example]]) -> None:
        self.mixture = mixture
        self._sources = sources
        self.epoch_size = sum(len(s) for s in sources)

    def take(
        self, cursor: int, count: int, excluded: Sequence[tuple[int, int]], part: int, of: int
    ) -> tuple[list[Example], int]:
        """``part`` of the next ``count`` examples, and the cursor after all of them."""
        wanted: list[Example] = []
        taken = 0
        while taken < count:
            skip = next((end for start, end in excluded if start <= cursor < end), None)
            if skip is not None:
                cursor = skip
                continue
            stop = min((start for start, _ in excluded if start > cursor), default=cursor + count)
            n = min(count - taken, stop - cursor)
            for offset, sample in enumerate(self.mixture.batch(cursor, n)):
                if (taken + offset) % of == part:
                    wanted.append(self._sources[sample.source][sample.index])
            taken += n
            cursor += n
        return wanted, cursor
