"""Rows of unequal length are cut into micro-batches that read the fewest tokens."""

from __future__ import annotations

from itertools import combinations, pairwise

from engine_rlhf.online.row_cuts import cut
from hypothesis import given, settings, strategies as st

OVERHEAD = 32
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=9).map(lambda x: sorted(x)[::-1])


def _cost(lengths, pieces):
    return sum((p.stop - p.start) * lengths[p.start] + OVERHEAD for p in pieces)


def _all(lengths):
    rows = len(lengths)
    for count in range(rows):
        for inner in combinations(range(1, rows), count):
            ends = [0, *inner, rows]
            yield [slice(a, b) for a, b in pairwise(ends)]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(50, 900))
def test_no_other_cut_reads_fewer_tokens(lengths, most):
    """Of all that keep within the most tokens, or have a single row."""
    found = cut(lengths, most=most, overhead=OVERHEAD)
    assert [row for piece in found for row in range(len(lengths))[piece]] == [*range(len(lengths))]
    allowed = [
        pieces
        for pieces in _all(lengths)
        if all(
            (p.stop - p.start) * lengths[p.start] <= most or p.stop - p.start == 1 for p in pieces
        )
    ]
    assert found in allowed
    assert _cost(lengths, found) == min(_cost(lengths, pieces) for pieces in allowed)


@given(LENGTHS, st.integers(1, 6))
def test_there_are_as_many_pieces_as_asked_for(lengths, pieces):
    """Or more, or as many as there are rows."""
    assert len(cut(lengths, most=10**6, overhead=OVERHEAD, pieces=pieces)) >= min(
        pieces, len(lengths)
    )


def test_rows_that_are_alike_stay_together():
    """And nothing is cut of nothing."""
    assert cut([50] * 8, most=10**6, overhead=OVERHEAD) == [slice(0, 8)]
    assert cut([500, 20, 20], most=10**6, overhead=OVERHEAD) == [slice(0, 1), slice(1, 3)]
    assert cut([500, 20, 20], most=10**6, overhead=10**4) == [slice(0, 3)]
    assert cut([], most=100, overhead=OVERHEAD) == []
