"""The form of a law: which of its constants are free.

A law is L = e^e + e^(a − α·x) + e^(b − β·y) with x = ln N and y = ln D. Constants are
``a, α, b, β, e`` in this order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engine import ScalingLaw

Array = np.ndarray[Any, Any]
Offset = Literal["free", "limited", "none"]
"""What E may be: any positive number, at most half of the lowest loss, or nothing."""

ABSENT = -1e3
"""The logarithm of a term that is left out; e to this power is nothing."""


@dataclass(frozen=True, slots=True)
class Form:
    """What of a law is fitted. ``tied``: α = β; ``offset``: what E may be; ``data``: whether there is
    a term of D beside that of N."""

    tied: bool = False
    offset: Offset = "free"
    data: bool = True

    def directions(self) -> Array:
        """How the constants follow from the free ones, as a matrix ``(5, free)``."""
        columns = [(1, 0, 0, 0, 0), (0, 1, 0, int(self.tied), 0)]
        if self.data:
            columns.append((0, 0, 1, 0, 0))
            if not self.tied:
                columns.append((0, 0, 0, 1, 0))
        if self.offset != "none":
            columns.append((0, 0, 0, 0, 1))
        return np.array(columns, dtype=float).T

    def fixed(self) -> Array:
        """The constants where all free ones are zero, of shape ``(5,)``."""
        e = ABSENT if self.offset == "none" else 0.0
        return np.array([0, 0, 0 if self.data else ABSENT, 0, e], dtype=float)

    def ceiling(self, lowest: Array) -> Array:
        """The largest ln E where the lowest loss of all points is ``lowest``."""
        return np.asarray(np.log(lowest / 2 if self.offset == "limited" else lowest))


_HIGHEST = 700.0
"""Largest number whose exponential is finite, about."""


def law_of(constants: Array, counted: Literal["all", "body"]) -> ScalingLaw:
    """The law of constants ``a, α, b, β, e``."""
    a, alpha, b, beta, e = map(float, constants)
    # A resampled set of few runs may give a cliff of any height; outside the runs it is the same.
    a, b = min(a, _HIGHEST), min(b, _HIGHEST)
    return ScalingLaw(math.exp(e), math.exp(a), alpha, math.exp(b), beta, counted)


def predicted(constants: Array, x: Array, y: Array) -> Array:
    """The logarithms of losses: ``constants`` ``(…, 5)`` at ``x`` and ``y`` ``(…, points)``."""
    found: Array = np.logaddexp(
        np.logaddexp(
            constants[..., 0, None] - constants[..., 1, None] * x,
            constants[..., 2, None] - constants[..., 3, None] * y,
        ),
        constants[..., 4, None],
    )
    return found
