"""Rows of unequal length in micro-batches: where to cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PRODUCT = {"cpu": 8e6, "cuda": 4e9}
"""What a product with a matrix costs beside its multiplications, forward and backward together, in
multiplications: profiled on CPUs (DECISIONS); on GPUs reckoned as 20 µs in which nothing else runs."""


def overhead(matrices: int, weights: int, device: str) -> float:
    """What a micro-batch costs beside its tokens, in tokens, where a model multiplies with so many
    ``matrices`` of so many ``weights`` in all: most where they are small."""
    return _PRODUCT["cpu" if device == "cpu" else "cuda"] * matrices / max(1, weights)


def cut(lengths: Sequence[int], *, most: int, overhead: float, pieces: int = 1) -> list[slice]:
    """Slices of rows that are sorted by length, the longest first, so that the fewest tokens are
    read: every row is as wide as the first of its slice, which has at most ``most`` tokens so, and
    each slice costs ``overhead`` tokens more.

    At least so many ``pieces``, if there are rows enough.
    """
    rows = len(lengths)
    width = np.array(lengths)
    longest = max(1, rows // pieces)
    least = np.zeros(rows + 1)  # of the first n rows
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
