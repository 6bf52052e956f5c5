"""Draws that depend on a seed and on what is drawn, and not on its order."""

from __future__ import annotations

import hashlib


def place(seed: int, name: str) -> bytes:
    """The place of something in a shuffled order, by its name; other seeds give other orders."""
    key = seed.to_bytes(8, "big")
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8, key=key).digest()
