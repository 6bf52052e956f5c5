"""MinHash signatures (Broder 1997) and their bands, many documents at once.

A permutation of the shingles' upper 32 bits is ``a x + b`` modulo 2^32 with an odd ``a``. The shingles
are hashes already, so that for random sets two minima are equal with the probability J.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.banding import Banding
from engine_corpus.deduplicate.near.hashing import FACTOR, Hashes, mixed, sequence
from engine_corpus.deduplicate.near.shingles import Block, shingled

Signatures = NDArray[np.uint32]
_AT_ONCE = 1 << 16
"""Shingles of a long document that are permuted at once."""


def band_hashes(texts: pa.ChunkedArray, size: int, banding: Banding) -> tuple[Hashes, Hashes]:
    """Of each document a hash of all its shingles, and one of each band, in a row of a matrix.

    Both are 0 where a document has no word.
    """
    copies, bands = [], []
    for block in shingled(texts, size):
        copies.append(_totals(block))
        bands.append(_bands(block, size, banding))
    if not bands:
        return np.zeros(0, np.uint64), np.zeros((0, banding.bands), np.uint64)
    return np.concatenate(copies), np.concatenate(bands)


def signatures(block: Block, permutations: int) -> Signatures:
    """A row of each permutation, with the minima of the documents that have shingles."""
    shingles = (block.hashes >> np.uint64(32)).astype(np.uint32)
    counts = block.counts[block.counts > 0]
    if len(counts) == 1 and counts[0] > _AT_ONCE:
        pieces = [shingles[at : at + _AT_ONCE] for at in range(0, len(shingles), _AT_ONCE)]
        found = [_minima(piece, np.zeros(1, np.int64), permutations) for piece in pieces]
        least: Signatures = np.minimum.reduce(found)
        return least
    return _minima(shingles, np.cumsum(counts) - counts, permutations)


def _minima(shingles: Signatures, starts: NDArray[np.int64], permutations: int) -> Signatures:
    found = np.empty((permutations, len(starts)), np.uint32)
    if not len(starts):
        return found
    permuted = np.empty_like(shingles)
    factors, added = _permutations(permutations)
    for number in range(permutations):
        np.multiply(shingles, factors[number], out=permuted)
        permuted += added[number]
        np.minimum.reduceat(permuted, starts, out=found[number])
    return found


@cache
def _permutations(count: int) -> tuple[Signatures, Signatures]:
    numbers = sequence(2, count)
    return (numbers >> np.uint64(32)).astype(np.uint32) | np.uint32(1), numbers.astype(np.uint32)


def _bands(block: Block, size: int, banding: Banding) -> Hashes:
    found = np.zeros((len(block.counts), banding.bands), np.uint64)
    rows = signatures(block, banding.permutations).astype(np.uint64)
    made_by = sequence(3 + size, banding.bands) ^ np.uint64(banding.rows)
    for band in range(banding.bands):
        folded = np.full(rows.shape[1], made_by[band])
        for row in range(band * banding.rows, (band + 1) * banding.rows):
            folded = mixed(folded * FACTOR + rows[row])
        found[block.counts > 0, band] = folded
    return found


def _totals(block: Block) -> Hashes:
    """A hash of the shingles with their repetitions, whatever their order: their sum."""
    found = np.zeros(len(block.counts), np.uint64)
    counts = block.counts[block.counts > 0]
    if len(counts):
        found[block.counts > 0] = np.add.reduceat(block.hashes, np.cumsum(counts) - counts)
    return found
