"""Keyed permutations of range(n), computed index by index: nothing is stored.

A Feistel network permutes the next power of four; values outside the range are permuted again until
they are inside (cycle-walking: Black & Rogaway 2002, section 4).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6  # Luby & Rackoff need 4; two more since the round function is a 64-bit hash, not a PRF

Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]


def key_of(*parts: object) -> int:
    """A 128-bit key derived from ``parts``."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=16).digest(), "big")


def permute(values: Ints, size: int, key: int) -> Ints:
    """Applies the permutation of range(size) that ``key`` selects to ``values``, which are in it."""
    if size == 1:
        return values
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys: _Words = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64).astype(np.uint64)
    out = values.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():
        out[walking] = _feistel(out[walking], half, mask, keys)
        walking = out >= np.uint64(size)
    return out.astype(np.int64)


def _feistel(values: _Words, half: np.uint64, mask: np.uint64, keys: _Words) -> _Words:
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_scramble(right + key) & mask)
    return (left << half) | right


def _scramble(words: _Words) -> _Words:
    """splitmix64's finaliser (Steele et al. 2014); unsigned 64-bit arithmetic wraps around."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
