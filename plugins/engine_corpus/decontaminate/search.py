"""Finds what an index has in texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_corpus.decontaminate.index import Index, unpacked
from engine_corpus.decontaminate.words import Hashes, Numbers, Words, hashes_at, ngrams

_TABLE = 5
"""Of 2⁵ places in the table of a lookup, at most one is taken."""
_AT_ONCE = 2**14
"""Questions whose answers are looked for at once."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Keys of an index in texts, and the words where each starts and ends, the last one included."""

    keys: Hashes
    first: Numbers
    last: Numbers


class Search:
    """Searches for an index's keys; answers stand at most ``near`` words after their questions."""

    def __init__(self, index: Index, near: int) -> None:
        self._words = index.words
        self._near = near
        self._ngrams = _Lookup(index.ngrams)
        self._pairs = []
        for length in np.unique(index.pairs["anchor_words"]).tolist():
            pairs = index.pairs[index.pairs["anchor_words"] == length]
            pairs = pairs[np.argsort(pairs["anchor"], kind="stable")]
            self._pairs.append((length, pairs, _Lookup(np.unique(pairs["anchor"]))))

    def matches(self, words: Words) -> Matches:
        """What is found in texts."""
        hashes = ngrams(words.hashes, self._words)
        first = self._ngrams.places(hashes)
        last = first + self._words - 1
        whole = words.text_of(first) == words.text_of(last)
        found = [Matches(hashes[first[whole]], first[whole], last[whole])]
        for length, pairs, lookup in self._pairs:
            anchors = ngrams(words.hashes, length)
            places = lookup.places(anchors)
            for start in range(0, len(places), _AT_ONCE):
                some = places[start : start + _AT_ONCE]
                found.append(self._whole(words, pairs, anchors[some], some))
        together = (np.concatenate([getattr(one, n) for one in found]) for n in Matches.__slots__)
        return Matches(*together)

    def _whole(
        self, words: Words, pairs: npt.NDArray[Any], anchors: Hashes, places: Numbers
    ) -> Matches:
        """Whole questions with their answers, at anchors that were found."""
        low, high = (np.searchsorted(pairs["anchor"], anchors, side) for side in _SIDES)
        each = high - low
        number = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        pair = pairs[np.repeat(low, each) + number]
        place = np.repeat(places, each)
        text = words.text_of(place)
        first = place - pair["anchor_at"]
        after = first + pair["question_words"]
        here = (first >= words.first[text]) & (after <= words.first[text + 1])
        pair, first, after, text = (one[here] for one in (pair, first, after, text))
        asked = hashes_at(words.hashes, first, pair["question_words"]) == pair["question"]
        pair, first, after, text = (one[asked] for one in (pair, first, after, text))
        gap = self._gaps(words, pair, after, words.first[text + 1])
        answered = gap >= 0
        end = after + gap + pair["answer_words"]
        return Matches(pair["key"][answered], first[answered], end[answered] - 1)

    def _gaps(self, words: Words, pair: npt.NDArray[Any], after: Numbers, end: Numbers) -> Numbers:
        """How many words stand before the nearest answer; 0 where there is none to find, -1 where it is
        not found."""
        gap = np.where(pair["answer_words"] == 0, 0, -1)
        for distance in range(self._near + 1):
            start = after + distance
            open_ = np.flatnonzero((gap < 0) & (start + pair["answer_words"] <= end))
            starts = words.hashes[start[open_]] == pair["answer_starts"][open_]
            open_ = open_[starts]
            found = hashes_at(words.hashes, start[open_], pair["answer_words"][open_])
            gap[open_[found == pair["answer"][open_]]] = distance
        return gap


@lru_cache(maxsize=1)
def search_of(packed: str, near: int) -> Search:
    """The search for a packed index; the last one is kept, since it is the same for all parts."""
    return Search(unpacked(packed), near)


class _Lookup:
    """Finds hashes that are among others, most of which are not, by a table of their leading bits."""

    def __init__(self, hashes: Hashes) -> None:
        bits = min(26, max(10, len(hashes).bit_length() + _TABLE))
        self._hashes = hashes
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(2**bits, bool)
        self._taken[hashes >> self._shift] = True

    def places(self, hashes: Hashes) -> Numbers:
        """The places of those that are found."""
        if not len(self._hashes):
            return np.empty(0, np.int64)
        perhaps = np.flatnonzero(self._taken[hashes >> self._shift])
        some = hashes[perhaps]
        at = np.searchsorted(self._hashes, some)
        found: Numbers = perhaps[self._hashes[np.minimum(at, len(self._hashes) - 1)] == some]
        return found


_SIDES: Sequence[Any] = ("left", "right")
