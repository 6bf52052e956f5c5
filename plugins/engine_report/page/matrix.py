"""Tables whose rows are figures and whose columns are runs, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_WIDE = 6
"""Columns from which on the runs are rows."""
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table: ``corner`` is the head of the first column, ``columns`` those of the others; each row
    has a head and a cell for each column. Cells are numbers if ``numeric``, else text."""

    corner: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    numeric: bool = True
    notes: Sequence[str] = field(default=())

    def narrow(self, corner: str = "run") -> Matrix:
        """The same table; with rows and columns exchanged if it has many columns and fewer rows."""
        if len(self.columns) <= max(_WIDE, len(self.rows)):
            return self
        turned = [
            (name, [cells[place] for _, cells in self.rows])
            for place, name in enumerate(self.columns)
        ]
        return Matrix(corner, [head for head, _ in self.rows], turned, self.numeric, self.notes)


def number_of(value: Any) -> float | None:
    """The value if it is a finite number, else None: what a damaged log has is anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def count(value: float | None) -> str:
    """A whole number with separators."""
    return NOTHING if value is None else f"{value:,.0f}"


def amount(value: float | None) -> str:
    """A number of few digits, with a letter for large ones: ``2.56M``."""
    if value is None:
        return NOTHING
    for factor, letter in ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "B"), (1e12, "T")):
        if _is_short(value / factor):
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def precise(value: float | None) -> str:
    """A number such as a loss, whose fourth digit after the point tells something."""
    if value is None:
        return NOTHING
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.4g}"


def size(value: float | None) -> str:
    """Bytes: ``5.1 GB``."""
    if value is None:
        return NOTHING
    for factor, unit in ((1, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")):
        if _is_short(value / factor):
            return f"{value / factor:.3g} {unit}"
    terabytes = value / 1e12
    return f"{terabytes:.3g} TB" if _is_short(terabytes) else f"{terabytes:,.0f} TB"


def _is_short(value: float) -> bool:
    """Whether the value is written with at most three digits before the point, once it is rounded."""
    return abs(float(f"{value:.3g}")) < 1000


def duration(seconds: float | None) -> str:
    """A time in the two largest of its units: ``1 h 12 min``."""
    if seconds is None:
        return NOTHING
    whole, minutes = round(seconds), round(seconds / 60)
    if whole < 60:
        return f"{seconds:.2g} s" if whole < 10 else f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def moment(seconds: float | None) -> str:
    """A time since the epoch as a date and a time of day."""
    if seconds is None:
        return NOTHING
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):  # a damaged log may have any number
        return NOTHING
