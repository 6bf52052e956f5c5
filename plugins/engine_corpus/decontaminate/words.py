"""Words of texts as hashes, and n-grams of them, computed for whole arrays.

A word is a run of letters and digits. Case, accents, compatibility forms (such as full-width letters)
and invisible characters make no difference; a character of a script without spaces between words is a
word by itself. Hashes are polynomials modulo 2⁶⁴ (Karp and Rabin 1987), which prefix sums give for all
words and n-grams at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_BLOCK = 2**16
"""Bytes, or words, that are hashed at once, so that their arrays stay in the processor's cache."""
_LONGEST_WORD = 4096
"""Bytes; a longer word may be cut, which no benchmark has."""
_UNSPACED = ((0x0E00, 0x0FFF), (0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
"""Code points of scripts without spaces between words."""


def _powers(base: int, count: int) -> Hashes:
    found = np.full(count, base, np.uint64)
    found[0] = 1
    return np.multiply.accumulate(found)


_LETTER, _WORD = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
"""Odd bases of the polynomials over bytes and over words."""
_ZERO = np.zeros(1, np.uint64)
_LETTERS = _powers(_LETTER, _BLOCK)
_LETTERS_INVERSE = _powers(pow(_LETTER, -1, 2**64), _BLOCK)
_WORDS = _powers(_WORD, 2 * _BLOCK)
_WORDS_INVERSE = _powers(pow(_WORD, -1, 2**64), _BLOCK)


class _Folding(dict[int, str]):
    """What becomes of each character, found on its first use."""

    def __missing__(self, code: int) -> str:
        found = ""
        for one in unicodedata.normalize("NFKD", chr(code)).casefold():
            category = unicodedata.category(one)
            if category[0] in "LN":
                found += one
            elif category[0] != "M" and category != "Cf":
                found += " "
        if any(first <= code <= last for first, last in _UNSPACED):
            found = f" {found} "
        self[code] = found
        return found


_FOLDING = _Folding()
_FOLDED = np.array(
    [byte if byte >= 128 or chr(byte).isalnum() else 0 for byte in range(256)], np.uint8
)
"""The bytes of folded texts, in lower case; 0 for those between words."""
_FOLDED[ord("A") : ord("Z") + 1] += 32


@dataclass(frozen=True, slots=True)
class Words:
    """The words of several texts.

    ``hashes``: of each word; ``first``: the number of each text's first word, and in the end that of
    all words. ``_starts`` and ``_ends``: where words are in the bytes of the folded texts, which begin
    at ``_texts``.
    """

    hashes: Hashes
    first: Numbers
    _starts: Numbers
    _ends: Numbers
    _texts: Numbers

    @classmethod
    def of(cls, texts: Sequence[str]) -> Words:
        """The words of texts."""
        encoded = [_folded(text).encode() for text in texts]
        at = np.cumsum([0, *(len(one) + 1 for one in encoded)])
        letters = _FOLDED[np.frombuffer(b"\n".join([*encoded, b""]), np.uint8)]
        blocks = [_words(letters[start:end], start) for start, end in _blocks(letters)]
        none = np.empty(0, np.int64)
        starts = np.concatenate([none, *(block[1] for block in blocks)])
        ends = np.concatenate([none, *(block[2] for block in blocks)])
        hashes = np.concatenate([np.empty(0, np.uint64), *(block[0] for block in blocks)])
        return cls(hashes, np.searchsorted(starts, at), starts, ends, at)

    def text_of(self, words: Numbers) -> Numbers:
        """The numbers of the texts that words are in."""
        found: Numbers = np.searchsorted(self.first, words, side="right") - 1
        return found

    def characters(self, number: int, text: str, first: Numbers, last: Numbers) -> Numbers:
        """Where ranges of words, from ``first`` to ``last``, start and end in text ``number``, in its
        characters: an array of two columns."""
        at = np.stack([self._starts[first], self._ends[last] - 1], axis=1) - self._texts[number]
        if not text.isascii():
            sizes = [len(_FOLDING[ord(character)].encode()) for character in text]
            at = np.searchsorted(np.cumsum(sizes), at, side="right")
        found: Numbers = at + np.array([0, 1])
        return found


def ngrams(hashes: Hashes, length: int) -> Hashes:
    """Hashes of all runs of so many words; empty if there are fewer."""
    blocks = [
        _ngrams(hashes[start : start + _BLOCK + length - 1], length)
        for start in range(0, len(hashes) - length + 1, _BLOCK)
    ]
    return np.concatenate([np.empty(0, np.uint64), *blocks])


def hashes_at(hashes: Hashes, starts: Numbers, lengths: Numbers) -> Hashes:
    """Hashes of runs of words that start and are as long as told, as :func:`ngrams` gives them."""
    found = np.zeros(len(starts), np.uint64)
    for number in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > number)
        found[longer] += hashes[starts[longer] + number] * _WORDS[number]
    return found


def _folded(text: str) -> str:
    return text if text.isascii() else text.translate(_FOLDING)


def _blocks(letters: npt.NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Ranges of bytes that end between words."""
    start = 0
    while start < len(letters):
        end = min(start + _BLOCK, len(letters))
        if end < len(letters):
            between = np.flatnonzero(letters[end - _LONGEST_WORD : end] == 0)
            end -= _LONGEST_WORD - 1 - int(between[-1]) if between.size else 0
        yield start, end
        start = end


def _words(letters: npt.NDArray[np.uint8], offset: int) -> tuple[Hashes, Numbers, Numbers]:
    """Hashes of the words in a block, and where they start and end."""
    inside = np.concatenate([[False], letters != 0, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    sums = np.concatenate([_ZERO, np.cumsum(letters * _LETTERS[: len(letters)], dtype=np.uint64)])
    hashes = (sums[ends] - sums[starts]) * _LETTERS_INVERSE[starts]
    # Mixed, as polynomials of polynomials would collide for words of like letters.
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    return hashes ^ (hashes >> np.uint64(29)), starts + offset, ends + offset


def _ngrams(hashes: Hashes, length: int) -> Hashes:
    sums = np.concatenate([_ZERO, np.cumsum(hashes * _WORDS[: len(hashes)], dtype=np.uint64)])
    found: Hashes = (sums[length:] - sums[:-length]) * _WORDS_INVERSE[: len(hashes) - length + 1]
    return found
