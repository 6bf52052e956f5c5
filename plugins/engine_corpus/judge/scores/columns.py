"""Columns: texts for polars, and rules for what is dropped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa


def series_of(texts: pa.Array | pa.ChunkedArray) -> pl.Series:
    """The texts as a series of polars, whose regular expressions take linear time."""
    found = pl.from_arrow(texts)
    assert isinstance(found, pl.Series)
    return found


def dropped_where(chosen: npt.NDArray[np.bool_], rule: str) -> pa.Array:
    """A column ``drop``: the rule where chosen, null elsewhere."""
    return pa.array([rule if one else None for one in chosen.tolist()], pa.string())
