"""Statistics of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float | None]:
    """Σ above / Σ below, with its standard error (Cochran, Sampling Techniques, section 6.3).

    The standard error is None for fewer than two pairs.
    """
    count, total = len(above), math.fsum(below)
    value = math.fsum(above) / max(total, 1.0)
    if count < 2:
        return value, None
    squares = math.fsum((a - value * b) ** 2 for a, b in zip(above, below, strict=True))
    return value, math.sqrt(squares * count / (count - 1)) / max(total, 1.0)
