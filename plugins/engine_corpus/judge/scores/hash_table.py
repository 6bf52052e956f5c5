"""A table of distinct numbers that finds the positions of many numbers at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
_EMPTY = np.uint64(2**64 - 1)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4)."""


class HashTable:
    """Open addressing with linear probing, at most half full; all keys are probed side by side.

    ``keys``: distinct, and below 2^64 − 1.
    """

    def __init__(self, keys: Keys) -> None:
        bits = max(int(2 * len(keys)).bit_length(), 4)
        self._shift = np.uint64(64 - bits)
        self._mask = np.uint64((1 << bits) - 1)
        self._keys = np.full(1 << bits, _EMPTY, np.uint64)
        self._positions = np.full(1 << bits, -1, np.int32)
        waiting, slots = np.arange(len(keys), dtype=np.int32), self._slots(keys)
        while len(waiting):
            free = self._keys[slots] == _EMPTY
            self._keys[slots[free]] = keys[waiting[free]]  # of several, one gets the slot
            placed = self._keys[slots] == keys[waiting]
            self._positions[slots[placed]] = waiting[placed]
            waiting, slots = waiting[~placed], (slots[~placed] + np.uint64(1)) & self._mask

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """The position of each key among those of the table, or -1."""
        slots = self._slots(keys)
        at = self._keys[slots]
        found = np.where(at == keys, self._positions[slots], -1).astype(np.int64)
        waiting = np.flatnonzero((at != keys) & (at != _EMPTY))
        slots = slots[waiting]
        while len(waiting):
            slots = (slots + np.uint64(1)) & self._mask
            at, wanted = self._keys[slots], keys[waiting]
            equal = at == wanted
            found[waiting[equal]] = self._positions[slots[equal]]
            going = ~equal & (at != _EMPTY)
            waiting, slots = waiting[going], slots[going]
        return found

    def _slots(self, keys: Keys) -> Keys:
        return (keys * _FACTOR) >> self._shift
