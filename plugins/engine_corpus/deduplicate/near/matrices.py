"""Matrices of hashes as columns of lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.hashing import Hashes

HASHES = pa.large_list(pa.uint64())


def column_of(matrix: Hashes, given: NDArray[np.bool_]) -> pa.Array:
    """Rows of a matrix as lists, empty where they are not given."""
    ends = np.concatenate([[0], np.cumsum(np.where(given, matrix.shape[1], 0))])
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(matrix[given].ravel()))


def matrix_of(column: pa.ChunkedArray, width: int) -> Hashes:
    """The lists as rows of a matrix, of zeros where they are empty."""
    given = pc.list_value_length(column).to_numpy() > 0
    matrix = np.zeros((len(column), width), np.uint64)
    matrix[given] = pc.list_flatten(column).to_numpy().reshape(-1, width)
    return matrix
