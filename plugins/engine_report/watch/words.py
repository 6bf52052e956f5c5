"""Numbers and times as a person reads them."""

from __future__ import annotations

import math
from typing import Any

_LENGTHS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """``45 s``, ``4 min 12 s``, ``3 h 5 min``, ``2 d 0 h``; a dash for what is no number."""
    if not math.isfinite(seconds):
        return "-"
    rest = max(0, round(seconds))
    for number, (size, unit) in enumerate(_LENGTHS):
        if rest >= size and number + 1 < len(_LENGTHS):
            lower, name = _LENGTHS[number + 1]
            return f"{rest // size} {unit} {rest % size // lower} {name}"
    return f"{rest} s"


def number_of(value: Any) -> float | None:
    """A number of a log, which may hold anything there; None for what is no finite number."""
    told = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if told and math.isfinite(value) else None
    except OverflowError:
        return None


def figure(name: str, value: Any) -> str:
    """A figure of a step with its unit; a dash for what is no number."""
    if number_of(value) is None:
        return "-"
    if name == "memory":
        return f"{value / 1e9:.2f} GB"
    if name == "utilisation":
        return f"{value:.1%}"
    if name.endswith("_per_second") or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.4g}"
