"""Exact numbers of runs of words: equal numbers for equal words, without comparing all pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine_corpus.deduplicate.substring.words import Hashes, Integers

Numbers = NDArray[np.int32]


def numbered(words: Numbers, length: int, starts: Integers, keys: Hashes) -> Integers:
    """Numbers of the runs of so many words that start at some words, from 0 in order of appearance.

    ``keys``: a hash of each run. Runs are numbered by their hashes if it proves that runs with the same
    hash have the same words, else by the words alone.
    """
    order = np.argsort(keys, kind="stable")
    new = np.ones(order.size, bool)
    new[1:] = np.diff(keys[order]) != 0
    if not _equal(words, length, starts, order[1:][~new[1:]], order[:-1][~new[1:]]):
        return _numbered_by_words(words, length, starts)
    begin = np.flatnonzero(new)
    rank = np.empty(begin.size, np.int64)
    rank[np.argsort(order[begin])] = np.arange(begin.size)
    numbers = np.empty(order.size, np.int64)
    numbers[order] = np.repeat(rank, np.diff(begin, append=order.size))
    return numbers


def first_places(numbers: Integers) -> Integers:
    """Where each number of a numbering appears first."""
    highest = np.maximum.accumulate(numbers)
    return np.flatnonzero(np.diff(highest, prepend=-1))


def _equal(
    words: Numbers, length: int, starts: Integers, runs: Integers, earlier: Integers
) -> bool:
    """Whether each run has the same words as an earlier one.

    Mostly the next run and the one after the earlier are such a pair too, and differ from this pair by
    their last words only.
    """
    partner = np.full(starts.size, -1)
    partner[runs] = starts[earlier]
    runs = np.flatnonzero(partner >= 0)
    here, there = starts[runs], partner[runs]
    last = length - 1
    if not np.array_equal(words[here + last], words[there + last]):
        return False
    new = np.ones(runs.size, bool)
    new[1:] = (np.diff(here) != 1) | (np.diff(there) != 1)
    here, there = here[new], there[new]
    return all(np.array_equal(words[here + at], words[there + at]) for at in range(last))


def _numbered_by_words(words: Numbers, length: int, starts: Integers) -> Integers:
    """The same without hashes: runs of twice the length are pairs of runs, whose numbers are known
    (Karp, Miller and Rosenberg, "Rapid identification of repeated patterns in strings, trees and
    arrays", STOC 1972)."""
    numbers, covered = words, 1
    while 2 * covered < length:
        numbers = _paired(numbers[:-covered], numbers[covered:])
        covered *= 2
    return _paired(numbers[starts], numbers[starts + length - covered]).astype(np.int64)


def _paired(left: Numbers, right: Numbers) -> Numbers:
    pairs = (left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)
    found: Numbers = pa.array(pairs).dictionary_encode().indices.to_numpy()
    return found
