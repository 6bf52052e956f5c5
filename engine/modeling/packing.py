"""Packs several documents into a row of fixed length, without attention between them.

Position ids restart at 0 with every document: models tell documents apart by them.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IGNORE = -100
"""Label of a position that does not count in the loss."""

Ints = NDArray[np.int64]


class Document(Protocol):
    """The arrays that :func:`join` reads, all of shape ``_T``."""

    @property
    def input_ids(self) -> Ints:
        """Tokens."""

    @property
    def labels(self) -> Ints:
        """The token that should follow each, or ``IGNORE``."""

    @property
    def position_ids(self) -> Ints:
        """Places in the document, from 0 on."""


@dataclass(frozen=True, slots=True)
class Row:
    """Documents in one row, each field of shape ``_T``: ``labels[t]`` is the target after token t."""

    input_ids: Ints
    labels: Ints
    position_ids: Ints


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: rows of indices whose lengths sum to at most ``capacity``.

    Deterministic; O(n log n), apart from insertions into a list of at most ``capacity`` entries. Raises
    ValueError for a length above the capacity.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    if order and lengths[order[0]] > capacity:
        raise ValueError(
            f"example {order[0]} has {lengths[order[0]]} tokens, but a row holds {capacity}"
        )
    rows: list[list[int]] = []
    space: list[int] = []  # the distinct amounts of free space, ascending
    open_rows: dict[int, list[int]] = {}  # free space → rows that have it
    for index in order:
        at = bisect.bisect_left(space, lengths[index])
        if at < len(space):
            free = space[at]
            row = open_rows[free].pop()
            if not open_rows[free]:
                del open_rows[free]
                space.pop(at)
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        left = free - lengths[index]
        if left not in open_rows:
            bisect.insort(space, left)
            open_rows[left] = []
        open_rows[left].append(row)
    return rows


def join(documents: Sequence[Document], capacity: int, pad_id: int) -> Row:
    """Several documents in a row of ``capacity`` tokens. Raises ValueError if they do not fit.

    Padding is documents of one token, to which nothing attends.
    """
    padding = capacity - sum(len(d.input_ids) for d in documents)
    if padding < 0:
        raise ValueError(f"{capacity - padding} tokens do not fit a row of {capacity}")
    zeros = np.zeros(padding, np.int64)
    return Row(
        np.concatenate([*(d.input_ids for d in documents), zeros + pad_id]),
        np.concatenate([*(d.labels for d in documents), zeros + IGNORE]),
        np.concatenate([*(d.position_ids for d in documents), zeros]),
    )


def document_bounds(input_ids_BT: Ints, position_ids_BT: Ints) -> NDArray[np.int32]:
    """Offsets at which documents begin in rows laid end to end, then the end of the last: ``_N+1``, as
    variable-length attention kernels take them.

    Adjacent one-token documents of the same token, such as padding, count as one document: they attend
    to equal values only, so results do not change. N is rounded up to a power of four with empty
    documents at the end, so that a compiled layer meets few shapes.
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
