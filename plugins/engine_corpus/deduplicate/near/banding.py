"""The division of a MinHash signature into bands, chosen for a threshold."""

from __future__ import annotations

from dataclasses import dataclass

_RECALL = 0.99
"""Least share of the pairs at the threshold that the bands propose. A proposal that fails costs time; a
pair that is not proposed stays, so the bands are many and narrow."""
_POINTS = 20
_VERSION = 1
"""Of the hashes."""


@dataclass(frozen=True, slots=True)
class Banding:
    """So many bands of so many rows; two documents with one band in common are compared."""

    bands: int
    rows: int

    @property
    def permutations(self) -> int:
        """Permutations that it uses."""
        return self.bands * self.rows

    def name(self, words: int) -> str:
        """Tells whether the bands of two corpora can be compared."""
        return f"version {_VERSION}, shingles of {words} words, {self.bands} bands of {self.rows}"

    def proposed(self, similarity: float) -> float:
        """The probability that a pair of this Jaccard similarity is compared: 1 - (1 - J^r)^b
        (Leskovec, Rajaraman & Ullman, Mining of Massive Datasets, section 3.4)."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)

    def curve(self) -> list[tuple[float, float]]:
        """Points of the S-curve: similarities, and the probability at each."""
        places = [step / _POINTS for step in range(_POINTS + 1)]
        return [(place, self.proposed(place)) for place in places]


def banding_for(threshold: float, permutations: int) -> Banding:
    """The widest bands that propose at least 99 % of the pairs at the threshold; of one row each where
    there are none."""
    for rows in range(permutations, 1, -1):
        banding = Banding(permutations // rows, rows)
        if banding.proposed(threshold) >= _RECALL:
            return banding
    return Banding(permutations, 1)
