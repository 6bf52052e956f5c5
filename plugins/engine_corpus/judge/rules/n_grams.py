"""Repeated sequences of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_GRAM = 4
"""Characters that are hashed at once."""
_MAX_BITS = 24
_FACTORS = [np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)]


class WordSequence:
    """The words of a text, which have no white space in them; ``counts``: of the different ones."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.counts = Counter(words)

    @cached_property
    def _numbers(self) -> Integers:
        """The words as numbers from 0 on."""
        numbers = {word: number for number, word in enumerate(self.counts)}
        return np.fromiter(map(numbers.__getitem__, self.words), np.int64, len(self.words))

    @cached_property
    def _bounds(self) -> Integers:
        """Where each word begins, and the last one ends, if nothing stands between words."""
        lengths = np.fromiter(map(len, self.counts), np.int64, len(self.counts))
        bounds: Integers = np.zeros(len(self.words) + 1, np.int64)
        np.cumsum(lengths[self._numbers], out=bounds[1:])
        return bounds

    def top_n_grams(self, up_to: int) -> list[int]:
        """For each n from 2: characters in all occurrences of the most frequent sequence of n words.

        Words count with one space between them, and occurrences that overlap count as often as they
        occur. Of sequences that are equally frequent the first counts.
        """
        found, keys, size = [], self._numbers, len(self.counts)
        kinds = size
        for n in range(2, up_to + 1):
            if len(self.words) < n:
                found.append(0)
                continue
            if kinds * size >= 2**63:
                _, keys = np.unique(keys, return_inverse=True)
                kinds = int(keys.max()) + 1
            keys, kinds = keys[:-1] * size + self._numbers[n - 1 :], kinds * size
            first, count = _most_frequent(keys)
            length = int(self._bounds[first + n] - self._bounds[first]) + n - 1
            found.append(length * count)
        return found

    def duplicate_n_grams(self, n: int) -> int:
        """Characters in sequences of n words, at least four, that repeat an earlier sequence.

        From the first word on, the words of a repeated sequence count and are passed over; any other
        sequence is remembered and the next word taken. Sequences are equal if their characters are.
        """
        if len(self.words) < n:
            return 0
        characters, bounds = self._characters, self._bounds_list
        seen: set[str] = set()
        repeated = free = 0
        for position in self._candidates(n):
            if position < free:
                continue
            n_gram = characters[bounds[position] : bounds[position + n]]
            if n_gram in seen:
                repeated += len(n_gram)
                free = position + n
            else:
                seen.add(n_gram)
        return repeated

    def _candidates(self, n: int) -> list[int]:
        """All positions where n words begin that occur more than once, and perhaps a few others.

        Equal sequences have equal sums of hashes of their 4-grams of characters. Most others are alone
        in one of the many buckets, which is found without sorting.
        """
        hashes = self._sums[self._bounds[n:] - _GRAM + 1] - self._sums[self._bounds[:-n]]
        bits = min((8 * len(hashes)).bit_length(), _MAX_BITS)
        buckets = (hashes >> np.uint64(64 - bits)).astype(np.int64)
        together = np.flatnonzero(np.bincount(buckets)[buckets] > 1)
        _, inverse, counts = np.unique(hashes[together], return_inverse=True, return_counts=True)
        positions: list[int] = together[counts[inverse] > 1].tolist()
        return positions

    @cached_property
    def _characters(self) -> str:
        return "".join(self.words)

    @cached_property
    def _bounds_list(self) -> list[int]:
        bounds: list[int] = self._bounds.tolist()
        return bounds

    @cached_property
    def _sums(self) -> npt.NDArray[np.uint64]:
        """Sums modulo 2^64 of the hashes of all 4-grams of characters before each one."""
        codes = np.frombuffer(self._characters.encode("utf-32-le"), np.uint32).astype(np.uint64)
        count = len(codes) - _GRAM + 1
        hashes = codes[:count].copy()
        for shift, factor in enumerate(_FACTORS, 1):
            hashes += codes[shift : shift + count] * factor
        hashes ^= hashes >> np.uint64(29)
        hashes *= _FACTORS[1]
        hashes ^= hashes >> np.uint64(32)
        sums = np.zeros(count + 1, np.uint64)
        np.cumsum(hashes, out=sums[1:])
        return sums


def _most_frequent(keys: npt.NDArray[Any]) -> tuple[int, int]:
    """First position of the most frequent key, and how often it occurs."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(starts, append=len(keys))
    most = int(counts.max())
    if most == 1:
        return 0, 1
    return int(np.isin(keys, ordered[starts[counts == most]]).argmax()), most
