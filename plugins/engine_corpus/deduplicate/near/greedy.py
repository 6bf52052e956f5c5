"""The decision: in their order, documents fall that are similar to a document that stays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.hashing import Hashes
from engine_corpus.deduplicate.near.nodes import place_of, row_of

_ORDER = (
    ("group", "ascending"),
    ("older", "descending"),
    ("priority", "descending"),
    ("length", "descending"),
    ("id", "ascending"),
    ("node", "ascending"),
)
"""Older corpora's documents first, then by priority, length and id."""
_AT_ONCE = 1 << 20
"""Shingles of other documents that one is compared with at once."""
_SLOTS = 1 << 18
"""Bits of a coarse index of shingles, a power of two: it fits into a processor's cache."""


def fallen(table: pa.Table, threshold: float) -> pa.Table:
    """The documents that fall, of whole groups in rows of ``COMPARED``.

    A document is compared with those before it that stay and have a band in common with it. It falls if
    the Jaccard similarity to one of them is at least the threshold; its keeper is the most similar one,
    of equally similar ones the first.
    """
    table = table.combine_chunks()
    order = pc.sort_indices(table.select([name for name, _ in _ORDER]), sort_keys=list(_ORDER))
    sets = _Sets(table)
    bands = pc.list_flatten(table.column("near_bands")).to_numpy().reshape(table.num_rows, -1)
    groups, older = (table.column(name).to_numpy() for name in ("group", "older"))
    rows, keepers, similarities = [], [], []
    group = None
    for row in order.to_pylist():
        if groups[row] != group:
            group, stay = groups[row], _Staying(threshold)
        own, shingles = bands[row].tolist(), sets.of(row)
        if not older[row]:
            keeper, similarity = stay.most_similar(own, shingles)
            if keeper is not None:
                rows.append(row)
                keepers.append(keeper)
                similarities.append(similarity)
                continue
        stay.add(row, own, shingles)
    nodes = table.column("node").to_numpy()[rows]
    return pa.table(
        {
            "part": place_of(nodes).astype(np.int32),
            "row": row_of(nodes),
            "near_keeper": table.column("id").take(pa.array(keepers, pa.int64())),
            "near_similarity": pa.array(similarities, pa.float64()),
        }
    )


class _Sets:
    """The shingle sets of a table's documents; a copy has no set of its own there."""

    def __init__(self, table: pa.Table) -> None:
        lists = table.column("shingles").combine_chunks()
        self._values = lists.values.to_numpy()
        self._ends = lists.offsets.to_numpy()
        given = lists.is_valid().to_numpy(zero_copy_only=False)
        groups, copies = (table.column(name).to_pylist() for name in ("group", "copies"))
        names = list(zip(groups, copies, strict=True))
        first = {names[row]: row for row in np.flatnonzero(given).tolist()}
        self._at = [row if given[row] else first[names[row]] for row in range(len(names))]

    def of(self, row: int) -> Hashes:
        """Ascending."""
        at = self._at[row]
        found: Hashes = self._values[self._ends[at] : self._ends[at + 1]]
        return found


class _Staying:
    """The documents of a group that stay, in their order."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._rows: list[int] = []
        self._sets: list[Hashes] = []
        self._slots: list[NDArray[np.intp]] = []
        self._with_band: dict[int, list[int]] = {}
        self._marked = np.zeros(_SLOTS, bool)

    def add(self, row: int, bands: list[int], shingles: Hashes) -> None:
        """Adds a document."""
        for band in bands:
            self._with_band.setdefault(band, []).append(len(self._rows))
        self._rows.append(row)
        self._sets.append(shingles)
        self._slots.append(_slots(shingles))

    def most_similar(self, bands: list[int], shingles: Hashes) -> tuple[int | None, float]:
        """The first of the most similar ones, and the similarity; None where none reaches the
        threshold.

        A bound tells which ones to look at: at least as many shingles as two documents have in common
        fall into slots that both have.
        """
        places = sorted({place for band in bands for place in self._with_band.get(band, ())})
        best = 0.0, 0  # the similarity, and the place below 0, so that the first is the largest
        own = _slots(shingles)
        self._marked[own] = True
        for some in self._divided(places):
            slots = [self._slots[place] for place in some]
            sizes = np.array([len(one) for one in slots])
            starts = np.cumsum(sizes) - sizes
            marked = self._marked[np.concatenate(slots)]
            common = np.minimum(np.add.reduceat(marked, starts, dtype=np.int64), len(own))
            bounds = common / (sizes + len(own) - common)
            for at in np.argsort(-bounds, kind="stable").tolist():
                if bounds[at] < max(best[0], self._threshold):
                    break
                similarity = _jaccard(shingles, self._sets[some[at]])
                if similarity >= self._threshold:
                    best = max(best, (similarity, -some[at]))
        self._marked[own] = False
        return (self._rows[-best[1]] if best[0] else None), best[0]

    def _divided(self, places: list[int]) -> Iterator[list[int]]:
        """The places, those of not too many shingles at once."""
        ends = np.cumsum([len(self._slots[place]) for place in places])
        first = 0
        while first < len(places):
            limit = (ends[first - 1] if first else 0) + _AT_ONCE
            after = max(first + 1, int(np.searchsorted(ends, limit, "right")))
            yield places[first:after]
            first = after


def _slots(shingles: Hashes) -> NDArray[np.intp]:
    return (shingles & np.uint64(_SLOTS - 1)).astype(np.intp)


def _jaccard(a: Hashes, b: Hashes) -> float:
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)
