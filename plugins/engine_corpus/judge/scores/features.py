"""Features of texts: counts of hashed n-grams of words or characters, scaled to length 1.

N-grams fall into buckets by a hash (Weinberger et al. 2009, arXiv:0902.2206, without signs), which is
the same on every machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine_corpus.judge.scores.ngram_model import Floats
from engine_corpus.judge.scores.words import Ints, words_of

Ngrams = Literal["words", "characters"]
_Hashes = npt.NDArray[np.uint64]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, slots=True)
class Features:
    """A sparse matrix with a row for each text: ``columns`` and ``values`` of its entries, row by row,
    of which each has as many as ``counts`` says."""

    columns: Ints
    values: Floats
    counts: Ints

    @property
    def rows(self) -> Ints:
        """The row of each entry."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def features_of(
    texts: pa.Array | pa.ChunkedArray, ngrams: Ngrams, order: int, buckets: int
) -> Features:
    """Features of each text: of its n-grams of 1 to ``order`` units, in lower case."""
    units, counts = _words(texts) if ngrams == "words" else _characters(texts)
    text_of = np.repeat(np.arange(len(counts)), counts)
    entries = []
    hashes = units
    for length in range(1, order + 1):
        if length > 1:
            hashes = _joined(hashes[: len(hashes) - 1], units[length - 1 :])
        whole = text_of[length - 1 :] == text_of[: len(hashes)]
        bucket = (hashes[whole] % np.uint64(buckets)).astype(np.int64)
        entries.append(text_of[: len(hashes)][whole] * buckets + bucket)
    entry = np.sort(np.concatenate(entries))
    starts = np.flatnonzero(np.diff(entry, prepend=-1))
    row, column = np.divmod(entry[starts], buckets)
    values = np.diff(np.append(starts, len(entry))).astype(np.float64)
    squares = np.bincount(row, values**2, minlength=len(counts))
    return Features(column, values / np.sqrt(squares)[row], np.bincount(row, minlength=len(counts)))


def _words(texts: pa.Array | pa.ChunkedArray) -> tuple[_Hashes, Ints]:
    words = words_of(texts)
    found = [zlib.crc32(word.encode()) for word in words.distinct.to_pylist()]
    return np.array(found, np.uint64)[words.codes], words.counts


def _characters(texts: pa.Array | pa.ChunkedArray) -> tuple[_Hashes, Ints]:
    lowered = [text.lower() for text in texts.to_pylist()]
    codes = np.frombuffer("".join(lowered).encode("utf-32-le"), "<u4")
    return codes.astype(np.uint64), np.array([len(text) for text in lowered], np.int64)


def _joined(first: _Hashes, last: _Hashes) -> _Hashes:
    """The hashes of n-grams, from those of their first units and of their last unit."""
    mixed = (first + np.uint64(1)) * _FACTOR + last
    return (mixed ^ (mixed >> _SHIFT)) * _FACTOR >> np.uint64(16)
