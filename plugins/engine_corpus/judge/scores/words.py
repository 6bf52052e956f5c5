"""Words of documents as arrays of numbers.

A word is a run of letters, digits and underscores, in lower case; each other character that is not
white space is a word of its own. Both as Unicode defines them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.judge.scores.columns import series_of

Ints = npt.NDArray[np.int64]
_WORD = r"\w+|[^\w\s]"
_PIECE = 4 * 2**20
"""Bytes of text that are taken at once, to bound the memory for their words."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of several texts, one text after the other.

    ``codes``: a number for each word, the same for equal words; ``counts``: words of each text;
    ``distinct``: the word of each code.
    """

    codes: Ints
    counts: Ints
    distinct: pa.Array

    @property
    def text_of(self) -> Ints:
        """For each word the number of its text."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


def words_of(texts: pa.Array | pa.ChunkedArray | Sequence[str]) -> Words:
    """Divides texts into words."""
    given = (
        pl.Series(texts, dtype=pl.String) if isinstance(texts, list | tuple) else series_of(texts)
    )
    found = given.str.to_lowercase().str.extract_all(_WORD)
    counts = found.list.len().to_numpy().astype(np.int64)
    words = found.explode().drop_nulls().to_arrow().dictionary_encode()
    codes = words.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Words(codes, counts, words.dictionary)


def pieces(texts: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """Runs of texts of a few megabytes, or of one longer text; at least one."""
    sizes = pc.binary_length(texts).to_numpy().astype(np.int64)
    ends = np.flatnonzero(np.diff(np.cumsum(sizes) // _PIECE)) + 1
    for start, end in zip([0, *ends], [*ends, len(sizes)], strict=True):
        yield texts.slice(start, end - start)
