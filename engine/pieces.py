"""Rows of unequal length in micro-batches: where to cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.component import Batch, Example, Objective

_PRODUCT = {"cpu": 8e6, "cuda": 4e9}
"""What a product with a matrix costs beside its multiplications, forward and backward together, in
multiplications: profiled on CPUs (DECISIONS); on GPUs reckoned as 20 µs in which nothing else runs."""


def overhead(matrices: int, weights: int, device: str) -> float:
    """What a micro-batch costs beside its tokens, in tokens, where a model multiplies with so many
    ``matrices`` of so many ``weights`` in all: most where they are small."""
    return _PRODUCT["cpu" if device == "cpu" else "cuda"] * matrices / max(1, weights)


def even(rows: int, size: int) -> list[slice]:
    """Slices of ``size`` rows each, but the last."""
    return [slice(start, start + size) for start in range(0, rows, size)]


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


def micro_batches(
    examples: Sequence[Example],
    pieces: Sequence[slice],
    objective: Objective,
    stand_in: Callable[[], Example],
) -> list[Batch]:
    """A step's examples on this rank, in the pieces of the rank that has most of them; in place of a
    piece without any, the stand-in, without tokens so that it counts for nothing."""
    batches = []
    for piece in pieces:
        own = examples[piece]
        batch = objective.collate(own or [stand_in()])
        batches.append(batch if own else replace(batch, tokens=0))
    return batches
