"""Words and shingles of documents as hashes of 64 bits, many documents at once.

A word is a run of letters, marks, digits and underscores, whatever its case. A shingle is a sequence
of so many consecutive words (Broder 1997). A document of fewer words, but at least one, has one
shingle: all its words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.hashing import (
    ALONE,
    FACTOR,
    LETTER,
    SEPARATOR,
    Hashes,
    characters,
    mixed,
    powers,
)

BLOCK = 1 << 18
"""Bytes of text at once: what is computed of them stays in a processor's cache."""
_CONTINUES, _CONTINUED = 0xC0, 0x80
"""Mask and value of UTF-8's bytes that do not begin a character."""


class Block(NamedTuple):
    """Hashes of consecutive documents one after the other, and how many each has."""

    hashes: Hashes
    counts: NDArray[np.int64]


def shingled(texts: pa.ChunkedArray, size: int) -> Iterator[Block]:
    """The shingles of all documents in their order, with repetitions, in blocks of whole documents."""
    for words in _worded(texts):
        yield _shingles(words, size)


def shingle_sets(texts: pa.ChunkedArray, size: int) -> Iterator[Hashes]:
    """The different shingles of each document, ascending."""
    for block in shingled(texts, size):
        for own in np.split(block.hashes, np.cumsum(block.counts)[:-1]):
            ordered = np.sort(own)
            first = np.ones(len(ordered), bool)
            first[1:] = ordered[1:] != ordered[:-1]
            yield ordered[first]


def _worded(texts: pa.ChunkedArray) -> Iterator[Block]:
    """The words of all documents."""
    for chunk in texts.cast(pa.large_string()).chunks:
        _, offsets, content = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset :][: len(chunk) + 1]
        data = np.frombuffer(content or b"", np.uint8)
        first = 0
        while first < len(chunk):
            after = int(np.searchsorted(ends, ends[first] + BLOCK, "right")) - 1
            if after > first:
                yield _block(data[ends[first] : ends[after]], ends[first : after + 1] - ends[first])
            else:
                after = first + 1
                yield _long(data[ends[first] : ends[after]])
            first = after


def _block(data: NDArray[np.uint8], bounds: NDArray[np.int64]) -> Block:
    """The words of documents of UTF-8; ``bounds``: where each begins, and the last ends."""
    codes = _codes(data)
    if len(codes) < len(data):
        before = np.concatenate([[0], np.cumsum(_begins_character(data))])
        bounds = before[bounds]
    starts, hashes = _words(codes, bounds[:-1])
    return Block(hashes, np.diff(np.searchsorted(starts, bounds)))


def _long(data: NDArray[np.uint8]) -> Block:
    """The words of a document that is longer than a block. A word as long as a block is cut."""
    found = []
    at = 0
    while at < len(data):
        end = min(at + BLOCK, len(data))
        while end < len(data) and data[end] & _CONTINUES == _CONTINUED:
            end -= 1
        piece = data[at:end]
        codes = _codes(piece)
        starts, hashes = _words(codes, np.zeros(1, np.int64))
        at = end
        if end < len(data) and len(starts) and starts[-1] > 0:  # the last word may go on
            characters_at = np.flatnonzero(_begins_character(piece))
            at = end - len(piece) + int(characters_at[starts[-1]])
            hashes = hashes[:-1]
        found.append(hashes)
    joined = np.concatenate(found)
    return Block(joined, np.array([len(joined)]))


def _codes(data: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.uint32]:
    """Code points of UTF-8, as bytes where all are ASCII."""
    if not len(data) or data.max() < 128:
        return data
    return np.frombuffer(data.tobytes().decode().encode("utf-32-le"), "<u4")


def _begins_character(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (data & _CONTINUES) != _CONTINUED
    return found


def _words(
    codes: NDArray[np.uint8] | NDArray[np.uint32], documents: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Hashes]:
    """Where words begin, and their hashes; ``documents``: where documents begin.

    A word's hash is that of a polynomial of its characters' numbers. As separators' numbers are 0, it
    is the sum up to the next word, divided by the power at which the word begins.
    """
    table = characters()
    kinds = table.kinds[codes]
    begins = kinds != SEPARATOR
    begins[1:] &= (kinds[:-1] != LETTER) | (kinds[1:] == ALONE)
    inside = documents[documents < len(codes)]
    begins[inside] = kinds[inside] != SEPARATOR
    starts = np.flatnonzero(begins)
    if not len(starts):
        return starts, np.zeros(0, np.uint64)
    rising, falling = powers(BLOCK)
    terms = table.numbers[codes]
    terms *= rising[: len(terms)]
    sums = np.add.reduceat(terms, starts)
    sums *= falling[starts]
    return starts, mixed(sums)


def _shingles(words: Block, size: int) -> Block:
    hashes, counts = words
    ends = np.cumsum(counts)
    padded = np.concatenate([hashes, np.zeros(size, np.uint64)])
    found = np.zeros(len(hashes), np.uint64)
    for place in range(size):
        found *= FACTOR
        found += padded[place : place + len(hashes)]
    whole = np.arange(size, len(hashes) + size) <= np.repeat(ends, counts)
    short = (counts > 0) & (counts < size)
    if short.any():
        lengths, firsts = counts[short], (ends - counts)[short]
        alone = mixed(lengths.astype(np.uint64))
        for place in range(size - 1):
            alone *= FACTOR
            alone += np.where(place < lengths, padded[firsts + place], np.uint64(0))
        found[firsts] = alone
        whole[firsts] = True
    return Block(mixed(found[whole]), np.where(short, 1, np.maximum(counts - size + 1, 0)))
