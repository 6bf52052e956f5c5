"""A curve in characters: dots of Braille, two columns and four rows in each character, or stars."""

from __future__ import annotations

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character's dots, by row and column (Unicode Standard, section 21.1)."""
_BLANK = 0x2800


def curve(
    steps: Floats, values: Floats, width: int, height: int, *, plain: bool = False
) -> list[tuple[str, str]]:
    """``height`` lines that show the values over the steps, each with what stands beside the axis: the
    value at the first, the middle and the last line.

    Both have the shape (steps,), in the order of the steps; values that are not finite are left out.
    Each column goes from the least to the largest of its values, so no spike is lost. The vertical
    scale is logarithmic if all values are positive. ``plain``: only characters of ASCII. Empty if there
    are fewer than two values.
    """
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(values) < 2:
        return []
    logarithmic = bool(values.min() > 0)
    across, down = (1, 1) if plain else (2, 4)
    low, high = _extremes(steps, np.log(values) if logarithmic else values, width * across)
    bottom, top = float(low.min()), float(high.max())
    size, rows = (top - bottom) or 1.0, height * down
    first = np.round((top - high) / size * (rows - 1)).astype(int).tolist()
    last = np.round((top - low) / size * (rows - 1)).astype(int).tolist()
    cells = [[0] * width for _ in range(height)]
    for column, (upper, lower) in enumerate(zip(first, last, strict=True)):
        for row in range(upper, lower + 1):
            bit = 1 if plain else _DOTS[row % down][column % across]
            cells[row // down][column // across] |= bit
    marked = {0, (height - 1) // 2, height - 1}
    lines = []
    for number, line in enumerate(cells):
        at = top - size * number / max(1, height - 1)
        label = f"{np.exp(at) if logarithmic else at:.4g}" if number in marked else ""
        drawn = ("*" if cell else " " for cell in line)
        lines.append((label, "".join(drawn if plain else (chr(_BLANK + cell) for cell in line))))
    return lines


def _extremes(steps: Floats, values: Floats, columns: int) -> tuple[Floats, Floats]:
    """The least and the largest value of each column, which touch those of the column before; between
    steps, the value on a line."""
    edges = np.linspace(steps[0], steps[-1], columns + 1)
    starts = np.concatenate([[0], np.searchsorted(steps, edges[1:-1])])
    filled = np.diff(starts, append=len(steps)) > 0
    between = np.interp((edges[:-1] + edges[1:]) / 2, steps, values)
    low = np.where(filled, np.minimum.reduceat(values, starts), between)
    high = np.where(filled, np.maximum.reduceat(values, starts), between)
    before = np.arange(columns) - (np.arange(columns) > 0)
    return np.minimum(low, high[before]), np.maximum(high, low[before])
