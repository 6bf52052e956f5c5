"""A stream of tokens cut into examples of equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from engine.contracts.batch import Example, Window
from engine.data.shards import Shards
from engine.modeling.packing import IGNORE, Ints


class Windows(Sequence[Example]):
    """A token stream cut into windows of ``length`` tokens, each made an example by ``encode``.

    Window w reads tokens [w·length, (w+1)·length]; its last token is the first of the next window, so
    every token but the first is a label exactly once per epoch. An incomplete last window is dropped.
    """

    def __init__(
        self, shards: Shards, length: int, encode: Callable[[Window], Example] = Window.example
    ) -> None:
        self._shards = shards
        self._length = length
        self._encode = encode

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
        return self._encode(Window(tokens[:-1], labels, places))


def _positions(length: int, starts: Ints) -> Ints:
    origin = np.zeros(length, np.int64)
    origin[starts] = starts
    return np.arange(length) - np.maximum.accumulate(origin)
