"""Numbers of documents: their addresses in one integer, with a bit for those of older corpora."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.hashing import Hashes

_ROW_BITS = np.uint64(40)
_ROWS = np.uint64((1 << 40) - 1)
_PLACES = np.uint64((1 << 23) - 1)
_OLDER = np.uint64(1 << 63)


def node_of(place: NDArray[Any] | int, row: NDArray[Any], *, older: bool = False) -> Hashes:
    """The number of the document in this row of a part, or of a table of an older corpus."""
    number = (np.asarray(place).astype(np.uint64) << _ROW_BITS) | row.astype(np.uint64)
    return number | _OLDER if older else number


def is_older(nodes: Hashes) -> NDArray[np.bool_]:
    """Which of them are documents of older corpora: these are the largest numbers."""
    return nodes >= _OLDER


def place_of(nodes: Hashes) -> NDArray[np.int64]:
    """Numbers of the parts, or of the older corpora's tables."""
    return ((nodes >> _ROW_BITS) & _PLACES).astype(np.int64)


def row_of(nodes: Hashes) -> NDArray[np.int64]:
    """Rows in their parts or tables."""
    return (nodes & _ROWS).astype(np.int64)
