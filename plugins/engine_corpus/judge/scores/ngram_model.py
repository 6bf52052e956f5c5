"""Interpolated Kneser–Ney model of words (Chen & Goodman 1998, TR-10-98, sections 2.7 and 4.1.6).

The probability of a word w after the context h of k − 1 words is

    p(w | h) = max(a(hw) − D_k, 0) / a(h·) + D_k N(h·) / a(h·) · p(w | h'),

where h' is h without its first word, N(h·) the number of different words after h, and a(h·) the sum of
a(hw) over all w. For the highest order, a(hw) is the number of occurrences of hw; for lower ones the
number of different words before it (its continuation count). A context that does not occur is
shortened. The distribution of single words is interpolated with the uniform one over the vocabulary
and one unknown word, which stands for all words that do not occur. D_k is n1 / (n1 + 2 n2) of the
n-grams with counts 1 and 2 (Ney, Essen & Kneser 1994).

A text begins after marks; it has no mark at its end, which is not predicted. With discounts
(0, D, D, …) the probabilities of known words equal those of ``nltk.lm.KneserNeyInterpolated``, which
does not discount single words, so that a word that does not occur has the probability 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from engine_corpus.judge.scores.hash_table import HashTable, Keys as HashKeys
from engine_corpus.judge.scores.words import Ints, Words

Floats = npt.NDArray[np.float64]
_DISCOUNT = 0.5
"""Discount where no n-gram has the count 1, as in a few words: with 0, new words were impossible."""


@dataclass(frozen=True, slots=True)
class _Level:
    """The n-grams of one length: their positions in ``table``, and by position the logarithms of their
    probabilities; by the position of a context, the logarithm of the weight of the shorter one."""

    table: HashTable
    log_probability: Floats
    log_backoff: Floats


@dataclass(frozen=True, slots=True)
class _Grams:
    """The n-grams of one length in the reference text.

    ``keys``: a number for each different one; ``at``: which one ends at each place of the stream, or
    -1; ``places``: a place where each ends.
    """

    keys: HashKeys
    at: Ints
    places: Ints


class NgramModel:
    """A model of texts, which has at least one word; ``order``: length of its n-grams, at least 2.

    ``discounts``: from that of single words to that of the longest n-grams; estimated if not given.
    """

    def __init__(self, words: Words, order: int, discounts: Sequence[float] | None = None) -> None:
        self._vocabulary = words.distinct
        self._unknown, self._mark = len(words.distinct), len(words.distinct) + 1
        self._symbols = self._mark + 1
        self._order = order
        stream, places = self._stream(words.codes, words.counts)
        grams = self._grams(stream, words.counts)
        # Marks are not predicted: n-grams that end in one are contexts only.
        predicted = [one.places[stream[one.places] != self._mark] for one in grams]
        counts = [
            np.bincount(lower.at[ends], minlength=len(lower.keys))
            for lower, ends in zip(grams, [*predicted[1:], places], strict=True)
        ]
        used = discounts or [_estimated(one) for one in counts]
        lower = self._single_words(counts[0], used[0])
        self._log_single = _log(lower)
        self._levels = []
        for n in range(1, order):
            gram, context, shorter = (
                grams[n].at[predicted[n]],
                grams[n - 1].at[predicted[n] - 1],
                grams[n - 1].at[predicted[n]],
            )
            size = len(grams[n - 1].keys)
            total = np.bincount(context, weights=counts[n][gram], minlength=size)
            backoff = used[n] * np.bincount(context, minlength=size) / np.maximum(total, 1)
            backoff[total == 0] = 1
            probability = np.zeros(len(grams[n].keys))
            probability[gram] = np.maximum(counts[n][gram] - used[n], 0) / total[context]
            probability[gram] += backoff[context] * lower[shorter]
            self._levels.append(_Level(HashTable(grams[n].keys), _log(probability), _log(backoff)))
            lower = probability

    def log_probabilities(self, words: Words) -> Floats:
        """The natural logarithm of the probability of each word after the words before it."""
        known = pc.fill_null(pc.index_in(words.distinct, value_set=self._vocabulary), self._unknown)
        codes = known.to_numpy(zero_copy_only=False).astype(np.int64)[words.codes]
        stream, places = self._stream(codes, words.counts)
        found = self._log_single[stream]
        at = stream
        for level in self._levels:
            context = np.concatenate([[-1], at[:-1]])
            backed = found + np.where(context >= 0, level.log_backoff[context], 0.0)
            at = level.table.find(self._keys(context, stream))
            at[context < 0] = -1
            found = np.where(at >= 0, level.log_probability[at], backed)
        return found[places]

    def _stream(self, codes: Ints, counts: Ints) -> tuple[Ints, Ints]:
        """All words with marks before each text, as many as a context has, and the words' places."""
        text_of = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(codes)) + (self._order - 1) * (text_of + 1)
        stream = np.full(len(codes) + (self._order - 1) * len(counts), self._mark)
        stream[places] = codes
        return stream, places

    def _grams(self, stream: Ints, counts: Ints) -> list[_Grams]:
        lengths = counts + (self._order - 1)
        offsets = np.arange(len(stream)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        first = np.full(self._symbols, -1)
        first[stream] = np.arange(len(stream))
        found = [_Grams(np.arange(self._symbols, dtype=np.uint64), stream, first[first >= 0])]
        for n in range(1, self._order):
            whole = np.flatnonzero(offsets >= n)
            keys = self._keys(found[-1].at[whole - 1], stream[whole])
            distinct, places, numbers = np.unique(keys, return_index=True, return_inverse=True)
            at = np.full(len(stream), -1)
            at[whole] = numbers
            found.append(_Grams(distinct, at, whole[places]))
        return found

    def _keys(self, context: Ints, word: Ints) -> HashKeys:
        """A number for each pair of a context's position and a word."""
        return (context * self._symbols + word).astype(np.uint64)

    def _single_words(self, counts: Ints, discount: float) -> Floats:
        total = counts.sum()
        left = discount * np.count_nonzero(counts) / total
        single: Floats = np.maximum(counts - discount, 0) / total + left / (self._unknown + 1)
        return single


def _estimated(counts: Ints) -> float:
    once, twice = (int(np.count_nonzero(counts == number)) for number in (1, 2))
    return once / (once + 2 * twice) if once else _DISCOUNT


def _log(probabilities: Floats) -> Floats:
    """Natural logarithms; of 0, minus infinity."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
