"""Cuts rows of unequal length into micro-batches with the least padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cut(lengths: Sequence[int], *, most: int, overhead: float, pieces: int = 1) -> list[slice]:
    """Slices of rows, sorted by length with the longest first, that cost the fewest tokens.

    The rows of a slice are padded to its first, to ``most`` tokens together at most, and each slice
    costs ``overhead`` tokens more. There are at least ``pieces`` slices, if there are enough rows.
    """
    rows = len(lengths)
    width = np.array(lengths)
    longest = max(1, rows // pieces)
    least = np.zeros(rows + 1)  # the least cost of the first n rows
    begin = np.zeros(rows + 1, dtype=int)
    for end in range(1, rows + 1):
        begins = np.arange(max(0, end - longest), end)
        tokens = (end - begins) * width[begins]
        allowed = (tokens <= most) | (begins == end - 1)
        cost = np.where(allowed, least[begins] + tokens + overhead, np.inf)
        begin[end] = begins[cost.argmin()]
        least[end] = cost.min()
    found: list[slice] = []
    end = rows
    while end:
        found.append(slice(int(begin[end]), end))
        end = int(begin[end])
    return found[::-1]
