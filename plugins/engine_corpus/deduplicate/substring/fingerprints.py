"""Winnowing (Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting",
SIGMOD 2003).

Of each window, which is as many words as the shortest passage has, one fingerprint is taken: the least
of the hashes of the k-grams in it. It depends on these words alone, so that all documents with the same
window have the same fingerprint: this is the paper's guarantee. Neighbouring windows mostly agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_corpus.deduplicate.substring.words import Hashes, Integers

_BASE = 0x9FB21C651E98DF25
"""Of the polynomial: an odd number, which has an inverse modulo 2^64."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Runs of neighbouring windows of a text that have the same fingerprint.

    ``text``: the text's number; ``first``: the word of that text at which the first window starts;
    ``windows``: how many start at this word and the next ones.
    """

    values: Hashes
    text: Integers
    first: Integers
    windows: Integers


def grams(words: Hashes, length: int) -> Hashes:
    """Hashes of all runs of so many words: polynomials modulo 2^64, from differences of prefix sums."""
    if words.size < length:
        return np.empty(0, np.uint64)
    sums = np.zeros(words.size + 1, np.uint64)
    np.cumsum(words * _powers(_BASE, words.size), out=sums[1:])
    differences = sums[length:] - sums[:-length]
    inverse: Hashes = _powers(pow(_BASE, -1, 1 << 64), differences.size)
    return differences * inverse


def winnowed(words: Hashes, texts: Integers, length: int) -> Fingerprints:
    """The fingerprints of all windows of so many words; those over the end of a text do not count.

    A k-gram has half the words of a window. Which of several equal k-grams the paper takes, the
    rightmost, makes no difference here, as fingerprints stand for windows and not for places.
    """
    gram = (length + 1) // 2
    least = _sliding_minimum(grams(words, gram), length - gram + 1)
    counts = np.maximum(np.diff(texts) - length + 1, 0)
    text = np.repeat(np.arange(counts.size), counts)
    first = np.arange(text.size) - np.repeat(np.cumsum(counts) - counts, counts)
    least = least[first + texts[text]]
    new = np.ones(text.size, bool)
    new[1:] = (least[1:] != least[:-1]) | (text[1:] != text[:-1])
    at = np.flatnonzero(new)
    windows = np.diff(at, append=text.size)
    return Fingerprints(least[at], text[at], first[at], windows)


def _sliding_minimum(values: Hashes, width: int) -> Hashes:
    """The minimum of each so many neighbouring values, by doubling."""
    covered = 1
    while covered < width and values.size:
        step = min(covered, width - covered)
        values = np.minimum(values[:-step], values[step:])
        covered += step
    return values


def _powers(base: int, count: int) -> Hashes:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    products: Hashes = np.multiply.accumulate(powers)
    return products
