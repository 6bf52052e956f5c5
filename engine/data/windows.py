"""A stream of tokens cut into examples of equal length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.contracts.batch import Example
from engine.data.shards import Shards
from engine.modeling.packing import IGNORE, Ints


class Windows(Sequence[Example]):
    """A token stream cut into examples of ``length`` tokens, for an objective that reads such streams.

    Each has ``input_ids``, ``labels`` and ``position_ids``, all int64 of shape ``_T``. Window w reads
    tokens [w·length, (w+1)·length]; its last token is the first of the next window, so every token but
    the first is a label exactly once per epoch. An incomplete last window is dropped.
    """

    def __init__(self, shards: Shards, length: int) -> None:
        self._shards = shards
        self._length = length

    def __len__(self) -> int:
        return max(0, self._shards.n_tokens - 1) // self._length

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self._length
        tokens = self._shards.tokens(start, start + self._length + 1)
        starts = self._shards.document_starts(start, start + self._length + 1) - start
        labels = tokens[1:].copy()
        if not self._shards.boundary_target:
            labels[starts[starts > 0] - 1] = IGNORE
        places = _positions(self._length, starts[starts < self._length])
        fields = {"input_ids": tokens[:-1], "labels": labels, "position_ids": places}
        return Example(self._length, fields)


def _positions(length: int, starts: Ints) -> Ints:
    origin = np.zeros(length, np.int64)
    origin[starts] = starts
    return np.arange(length) - np.maximum.accumulate(origin)
