"""What a section of the check shows: rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A figure with what was wanted of it; ``passed`` is None for what is only measured."""

    what: str
    figure: str
    wanted: str = ""
    passed: bool | None = None


Rows = Iterator[Row]


def at_most(what: str, value: float, limit: float) -> Row:
    """A figure that passes up to a limit."""
    passed = math.isfinite(value) and value <= limit
    return Row(what, f"{value:.2g}", f"≤ {limit:g}", passed)


def holds(what: str, figure: object, condition: object) -> Row:
    """What is or is not so."""
    return Row(what, str(figure), "", bool(condition))
