"""Means with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine import Score


def mean(metric: str, strata: Sequence[Sequence[float]]) -> Score:
    """The mean over all values, and its standard error within the strata, as lm-eval has both.

    With one stratum that is the sample's standard deviation / √n; with several (MMLU's subjects),
    the pooled one, since the subjects were not drawn. None where no stratum has two values.
    """
    n = sum(map(len, strata))
    value = math.fsum(map(math.fsum, strata)) / max(n, 1)
    free = n - len(strata)
    squares = math.fsum((x - math.fsum(s) / len(s)) ** 2 for s in strata for x in s)
    return Score(metric, value, math.sqrt(squares / free / n) if free else None, n)
