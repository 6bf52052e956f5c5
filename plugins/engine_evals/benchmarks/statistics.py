"""Means with their standard errors, and intervals of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from engine import Score


def mean_score(metric: str, strata: Sequence[Sequence[float]]) -> Score:
    """The mean over all values, and its standard error within the strata, as in lm-eval.

    With one stratum the error is the sample's standard deviation / √n. With several (MMLU's subjects)
    it is pooled, as subjects are no random sample. It is None if no stratum has two values.
    """
    n = sum(map(len, strata))
    value = math.fsum(map(math.fsum, strata)) / max(n, 1)
    free = n - len(strata)
    squares = math.fsum((x - math.fsum(s) / len(s)) ** 2 for s in strata for x in s)
    return Score(metric, value, math.sqrt(squares / free / n) if free else None, n)


def paired_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of paired differences between -1 and 1.

    The adjusted Wald interval of Agresti and Min (2005, Statistics in Medicine 24): the normal interval
    with two more pairs, of which half a pair differs by 1 and half a pair by -1. With twenty pairs it
    covers the true mean at least 93 % of the time. It is never empty, since even without any observed
    difference, others may differ.
    """
    n = len(differences) + 2
    middle = math.fsum(differences) / n
    spread = math.fsum(d * d for d in differences) + 1 - n * middle**2
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(spread) / n
    return max(-1.0, middle - half), min(1.0, middle + half)
