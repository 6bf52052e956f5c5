"""Words of many documents at once: where they stand in the bytes of the texts, and their hashes.

Words are what white space separates, as ``str.split`` has it. All arrays are made by numpy over the
UTF-8 bytes of the texts, without an object for each word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
_Bytes = NDArray[np.uint8]

_BLOCK = 1 << 19
"""Bytes of text that are handled at once: the arrays of a block stay small, unless a text is longer."""
_WIDE_SPACES = [chr(code).encode() for code in range(0x80, 0x3001) if chr(code).isspace()]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # the multipliers of SplitMix64 (Steele et al. 2014)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_MASKS = np.array([256**count - 1 for count in range(9)], np.uint64)
_LONG = 64
"""Bytes of the longest word that is hashed together with others, eight bytes of each at a time."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words of texts.

    ``starts`` and ``ends``: bytes of ``data`` at which words start and end. ``texts``: the number of
    the first word of each text, and the number of all words.
    """

    data: _Bytes
    starts: Integers
    ends: Integers
    texts: Integers

    def strings(self) -> pa.LargeStringArray:
        """The words."""
        offsets = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        return string_array(offsets, self.data[~_spaces(self.data)])

    def passage(self, first: int, count: int) -> str:
        """The text from a word on, of so many words of one text."""
        start, end = int(self.starts[first]), int(self.ends[first + count - 1])
        return self.data[start:end].tobytes().decode()


def string_array(offsets: Integers, data: _Bytes) -> pa.LargeStringArray:
    """Strings of UTF-8 bytes, the first between the first two offsets."""
    buffers = [pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeStringArray.from_buffers(offsets.size - 1, *buffers)


def texts_of(table: pa.Table, ignore_case: bool) -> pa.LargeStringArray:
    """The column ``text`` with the characters that are compared; words keep their numbers."""
    texts = table.column("text").cast(pa.large_string())
    if ignore_case:
        folded = [text.casefold() for text in texts.to_pylist()]
        return pa.array(folded, pa.large_string())
    return texts.combine_chunks()


def blocks(texts: pa.LargeStringArray) -> Iterator[tuple[int, Words]]:
    """The words of consecutive texts, and the number of the first of these texts."""
    offsets = _offsets(texts)
    first = 0
    while first < len(texts):
        last = int(np.searchsorted(offsets, offsets[first] + _BLOCK, "right")) - 1
        last = max(last, first + 1)
        yield first, words_of(texts.slice(first, last - first))
        first = last


def words_of(texts: pa.LargeStringArray) -> Words:
    """The words of texts."""
    offsets = _offsets(texts)
    letters: Any = texts.buffers()[2] or b""
    data = np.frombuffer(letters, np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    space = np.ones(data.size + 2, bool)
    space[1:-1] = _spaces(data)
    left, right = space[:-1], space[1:]  # of each place between two bytes
    border = np.zeros(data.size + 1, bool)
    border[offsets] = True
    starts = np.flatnonzero(~right & (left | border))
    ends = np.flatnonzero(~left & (right | border))
    return Words(data, starts, ends, np.searchsorted(starts, offsets))


def hashes(words: Words) -> Hashes:
    """A 64-bit hash of each word, the same on every machine and in every version."""
    eights: Hashes = np.ndarray(
        words.data.size, "<u8", np.concatenate([words.data, np.zeros(8, np.uint8)]), strides=(1,)
    )
    lengths = words.ends - words.starts
    found = lengths.astype(np.uint64) * _ODD
    found = _mixed(found ^ (eights[words.starts] & _MASKS[np.minimum(lengths, 8)]))
    done = 8
    more = np.flatnonzero((lengths > done) & (lengths <= _LONG))
    while more.size:
        left = lengths[more] - done
        chunk = eights[words.starts[more] + done] & _MASKS[np.minimum(left, 8)]
        found[more] = _mixed(found[more] ^ chunk)
        more, done = more[left > 8], done + 8
    for number in np.flatnonzero(lengths > _LONG):
        word = words.data[words.starts[number] : words.ends[number]]
        found[number] = int.from_bytes(blake2b(word.tobytes(), digest_size=8).digest(), "little")
    return found


def _mixed(values: Hashes) -> Hashes:
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def _spaces(data: _Bytes) -> NDArray[np.bool_]:
    """Which bytes belong to characters of white space."""
    space = (data - np.uint8(9) < 5) | (data - np.uint8(28) < 5)  # 9 to 13 and 28 to 32, in ASCII
    if data.size and data.max() >= 0x80:
        for lead in {wide[0] for wide in _WIDE_SPACES}:
            begun = np.flatnonzero(data == lead)
            for wide in (wide for wide in _WIDE_SPACES if wide[0] == lead):
                at = begun
                for offset in range(1, len(wide)):
                    at = at[data[at + offset] == wide[offset]]
                for offset in range(len(wide)):
                    space[at + offset] = True
    return space


def _offsets(texts: pa.LargeStringArray) -> Integers:
    given = np.frombuffer(texts.buffers()[1], np.int64)
    return given[texts.offset : texts.offset + len(texts) + 1]
