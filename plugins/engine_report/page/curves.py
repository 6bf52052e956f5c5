"""Curves of a stage's steps, thinned so that a page stays small: a bucket of neighbouring steps keeps
the mean, the least and the greatest value of each figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FEWEST, MOST = 20, 400
"""Buckets of a curve: at least, however many curves there are, and at most."""
NUMBERS = 180_000
"""Numbers in all curves of a page together, about 1.6 MB as text."""
_HIDDEN = frozenset({"step", "time", "skipped"})
"""Columns that are shown otherwise than as a curve."""
_DIGITS = 6

Columns = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure over steps: the mean of each bucket, None where no value is finite; ``low`` and ``high``
    are the extremes of each bucket, empty if every bucket has one step."""

    value: list[float | None]
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Curves:
    """The figures of a stage's steps by name; ``step`` is the middle step of each bucket."""

    step: list[int]
    figures: dict[str, Curve]


def names_of(columns: Columns) -> list[str]:
    """The figures that have a finite value."""
    shown = (name for name in columns if name not in _HIDDEN)
    return [name for name in shown if np.isfinite(columns[name]).any()]


def buckets_for(curves: int) -> int:
    """Number of buckets of each of so many curves."""
    return max(FEWEST, min(MOST, NUMBERS // (3 * max(1, curves))))


def thinned(columns: Columns, buckets: int) -> Curves:
    """Divides the steps into at most so many buckets of nearly the same size."""
    steps = columns["step"] if "step" in columns else np.empty(0)
    count = len(steps)
    if count <= buckets:
        own = {name: Curve(_finite(columns[name])) for name in names_of(columns)}
        return Curves([int(step) for step in steps], own)
    starts = np.linspace(0, count, buckets, endpoint=False).astype(np.intp)
    ends = np.append(starts[1:], count)
    figures = {name: _bucketed(columns[name], starts) for name in names_of(columns)}
    return Curves([int(step) for step in steps[(starts + ends - 1) // 2]], figures)


def _bucketed(values: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> Curve:
    finite = np.isfinite(values)
    known = np.where(finite, values, np.nan)
    counts = np.add.reduceat(finite, starts, dtype=np.float64)
    # Divided first, so that large values do not overflow.
    sizes = np.repeat(np.maximum(counts, 1), np.diff(np.append(starts, len(values))))
    sums = np.add.reduceat(np.where(finite, values, 0) / sizes, starts)
    mean = np.where(counts > 0, sums, np.nan)
    low, high = (ufunc.reduceat(known, starts) for ufunc in (np.fmin, np.fmax))
    return Curve(_finite(mean), _finite(low), _finite(high))


def _finite(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def rounded(curves: Curves) -> Curves:
    """The same curves with numbers of few digits, for a small page; whole ones have no fraction."""
    figures = {
        name: Curve(*(list(map(_short, part)) for part in (one.value, one.low, one.high)))
        for name, one in curves.figures.items()
    }
    return Curves(curves.step, figures)


def _short(value: float | None) -> float | None:
    if value is None:
        return None
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
