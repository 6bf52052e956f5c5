"""Sizes and values as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def size_of(count: int) -> str:
    """A number of bytes with three digits and a unit; below 0 with a minus sign."""
    size, sign = float(abs(count)), "−" if count < 0 else ""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{sign}{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def values_of(found: Mapping[str, Any]) -> str:
    """Annotations in one line."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found.items()
    )
