"""Histograms whose bins are known beforehand, so that they need no memory for the documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

COUNTS = np.concatenate(([0], 2.0 ** np.arange(31)))
SHARES = np.linspace(0, 1, 51)
MEANS = np.linspace(0, 25, 51)


class Histogram:
    """Counts values between edges; values beyond the last edge are counted in the last bin."""

    def __init__(self, edges: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        self._edges = edges
        self._counts = np.zeros(len(edges) - 1, np.int64)

    def add(self, values: pa.ChunkedArray) -> None:
        """Counts values; nulls are left out."""
        known = values.drop_null().to_numpy()
        self._counts += np.histogram(np.minimum(known, self._edges[-1]), self._edges)[0]

    def result(self) -> Mapping[str, Any]:
        """``counts`` and the ``edges`` between them, without empty bins at the end."""
        used = int(np.flatnonzero(self._counts).max(initial=-1)) + 1
        return {
            "edges": self._edges[: used + 1].tolist(),
            "counts": self._counts[:used].tolist(),
        }
