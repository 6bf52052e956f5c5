"""Hashes of 64 bits that are the same in every process, on every machine and in every version.

All arithmetic is modulo 2^64, as numpy's on unsigned integers is.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

SEPARATOR, LETTER, ALONE = 0, 1, 2
"""Kinds of characters: between words, part of a word, and a word by itself."""
FACTOR = np.uint64(0xD1342543DE82EF95)
"""An odd multiplier of polynomials (Steele & Vigna 2021, table 5)."""

_TABLE = 0x110000
_LISTED = 0x20000
"""Beyond these characters there are ideographs, and little else."""
_WITHOUT_SPACES = (
    (0x0E00, 0x1000),  # Thai, Lao, Tibetan
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # Hiragana, Katakana
    (0x31F0, 0x3200),  # Katakana extensions
    (0x3400, 0x4DC0),  # ideographs
    (0x4E00, 0xA000),
    (0xF900, 0xFB00),
)
_IDEOGRAPHS = 0x40000
"""End of the planes of ideographs, which begin where the list ends."""


def mixed(values: Hashes) -> Hashes:
    """A bijection whose every output bit depends on every input bit (splitmix64's finalizer)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def sequence(seed: int, count: int) -> Hashes:
    """So many pseudo-random numbers of a seed (splitmix64; Steele, Lea & Flood 2014)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) + (np.uint64(seed) << np.uint64(32))
    return mixed(steps * np.uint64(0x9E3779B97F4A7C15))


class Characters(NamedTuple):
    """Of every code point its kind, and a number that case does not change; 0 for separators."""

    kinds: NDArray[np.uint8]
    numbers: Hashes


@cache
def characters() -> Characters:
    """The tables of all characters.

    Letters, marks, digits and the underscore make words. In scripts that put no spaces between words,
    each character is a word.
    """
    kinds = np.zeros(_TABLE, np.uint8)
    folded = np.arange(_TABLE, dtype=np.int64)
    for code in range(_LISTED):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN" or character == "_":
            kinds[code] = LETTER
            lower = character.casefold()
            folded[code] = ord(lower) if len(lower) == 1 else code
    for begin, end in _WITHOUT_SPACES:
        kinds[begin:end][kinds[begin:end] == LETTER] = ALONE
    kinds[_LISTED:_IDEOGRAPHS] = ALONE
    numbers = sequence(1, _TABLE)[folded]
    numbers[kinds == SEPARATOR] = 0
    return Characters(kinds, numbers)


@cache
def powers(count: int) -> tuple[Hashes, Hashes]:
    """The first powers of an odd number, and their inverses."""
    base = int(FACTOR)
    return _powers(base, count), _powers(pow(base, -1, 1 << 64), count)


def _powers(base: int, count: int) -> Hashes:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)
