"""Rows of fixed length in which documents lie side by side without seeing each other.

Position ids restart at 0 with every document: that is how models tell them apart.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.data.shards import Shards

IGNORE = -100
"""Label of a position that does not count in the loss."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One row, all of shape ``_T``: ``labels[t]`` is what should follow ``input_ids[t]``."""

    input_ids: Ints
    labels: Ints
    position_ids: Ints


class Windows(Sequence[Row]):
    """A token stream cut into rows of ``length`` inputs.

    Window w reads tokens [w·length, (w+1)·length], its last token being the next one's first: so
    every token but the first is a label exactly once per epoch. What is left at the end is dropped.
    """

    def __init__(self, shards: Shards, length: int) -> None:
        self._shards = shards
        self._length = length

    def __len__(self) -> int:
        return max(0, self._shards.n_tokens - 1) // self._length

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self._length
        tokens = self._shards.tokens(start, start + self._length + 1)
        starts = self._shards.document_starts(start, start + self._length + 1) - start
        labels = tokens[1:].copy()
        if not self._shards.boundary_target:
            labels[starts[starts > 0] - 1] = IGNORE
        return Row(tokens[:-1], labels, _positions(self._length, starts[starts < self._length]))


def _positions(length: int, starts: Ints) -> Ints:
    origin = np.zeros(length, np.int64)
    origin[starts] = starts
    return np.arange(length) - np.maximum.accumulate(origin)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: rows of indices whose lengths sum to at most ``capacity``.

    Deterministic; O(n log n) but for the shifting of a list of at most ``capacity`` entries. Raises
    ValueError for a length above the capacity.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if order and lengths[order[0]] > capacity:
        raise ValueError(f"example {order[0]} has {lengths[order[0]]} tokens, a row {capacity}")
    rows: list[list[int]] = []
    space: list[int] = []  # the distinct amounts of free space, ascending
    open_rows: dict[int, list[int]] = {}  # free space → rows that have it
    for i in order:
        at = bisect.bisect_left(space, lengths[i])
        if at < len(space):
            free = space[at]
            row = open_rows[free].pop()
            if not open_rows[free]:
                del open_rows[free]
                space.pop(at)
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(i)
        left = free - lengths[i]
        if left not in open_rows:
            bisect.insort(space, left)
            open_rows[left] = []
        open_rows[left].append(row)
    return rows


def join(examples: Sequence[Row], capacity: int, pad_id: int) -> Row:
    """Several examples in one row. Padding is documents of one token each, which nobody sees."""
    padding = capacity - sum(len(e.input_ids) for e in examples)
    if padding < 0:
        raise ValueError(f"{capacity - padding} tokens do not fit a row of {capacity}")
    zeros = np.zeros(padding, np.int64)
    return Row(
        np.concatenate([*(e.input_ids for e in examples), zeros + pad_id]),
        np.concatenate([*(e.labels for e in examples), zeros + IGNORE]),
        np.concatenate([*(e.position_ids for e in examples), zeros]),
    )


def document_bounds(input_ids_BT: Ints, position_ids_BT: Ints) -> NDArray[np.int32]:
    """Where documents begin in rows laid end to end, and last where all end: ``_N+1``, as kernels for
    documents of several lengths take it.

    Neighbours of one and the same token, each a document of its own, as padding is, count as one
    document: what they attend to is equal, so it changes nothing. N is the next power of four, for
    which empty documents follow at the end: a compiled layer meets few shapes so.
    """
    begins_BT = position_ids_BT == 0
    begins_BT[:, 0] = True
    single_BT = begins_BT.copy()
    single_BT[:, :-1] &= begins_BT[:, 1:]
    joined_BT = single_BT[:, 1:] & single_BT[:, :-1]
    joined_BT &= input_ids_BT[:, 1:] == input_ids_BT[:, :-1]
    begins_BT[:, 1:] &= ~joined_BT
    starts = np.flatnonzero(begins_BT)
    documents = 1
    while documents < len(starts):
        documents *= 4
    bounds = np.full(documents + 1, begins_BT.size, np.int32)
    bounds[: len(starts)] = starts
    return bounds
