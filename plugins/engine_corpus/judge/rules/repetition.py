"""Repeated elements of a text."""

from __future__ import annotations

from collections.abc import Sequence


def repeated(elements: Sequence[str]) -> tuple[int, int]:
    """The number of elements that repeat an earlier one, and the characters in them."""
    different = set(elements)
    characters = sum(map(len, elements)) - sum(map(len, different))
    return len(elements) - len(different), characters


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return part / whole if whole else None
