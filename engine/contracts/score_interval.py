"""A score's 95 % interval, as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_Z = 1.96


def score_interval(score: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of a score's event: its own, or ± 1.96 standard errors; both ends are the value
    if it has neither."""
    value, error = score["value"], _Z * (score.get("stderr") or 0)
    low, high = score.get("interval") or (value - error, value + error)
    return low, high


def score_text(score: Mapping[str, Any]) -> str:
    """The value and its 95 % interval, rounded to the digits that the interval makes meaningful."""
    value, (low, high) = score["value"], score_interval(score)
    below, above = value - low, high - value
    size = max(below, above)
    if not size:
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(size)))
    if math.isclose(below, above, rel_tol=0.01):
        return f"{value:.{decimals}f} ± {size:.{decimals}f}"
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
