"""The right answer's log-probability over training FLOPs: a power law, as a loss has.

Schaeffer et al. 2023 ("Are Emergent Abilities of Large Language Models a Mirage?", section 2): a score
that jumps may rest on a log-probability that moves smoothly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from engine_scaling.emergence.likelihood import Array


@dataclass(frozen=True, slots=True)
class Trend:
    """−logprob = e^``constant``·C^−``exponent``, the logarithms of both fitted by least squares.

    ``low``, ``high``: 95 % interval of the exponent; ``scatter``: standard deviation of the points
    around the law, relative.
    """

    constant: float
    exponent: float
    low: float
    high: float
    scatter: float
    _centre: float
    _spread: float
    _count: int

    def logprob(self, flops: float) -> tuple[float, float, float]:
        """The log-probability after so many FLOPs, and the 95 % interval of a further model's."""
        x = math.log(flops)
        middle = self.constant - self.exponent * x
        error = self.scatter * math.sqrt(
            1 + 1 / self._count + (x - self._centre) ** 2 / self._spread
        )
        half = _quantile(self._count) * error
        return -math.exp(middle), -math.exp(middle + half), -math.exp(middle - half)


def trend(flops: Sequence[float], logprobs: Sequence[float]) -> Trend:
    """Fits a power law to three points or more at two amounts of FLOPs or more."""
    x: Array = np.log(np.asarray(flops))
    y: Array = np.log(-np.asarray(logprobs))
    centre, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    slope = float(((x - centre) * y).sum()) / spread
    constant = float(y.mean()) - slope * centre
    scatter = math.sqrt(float(((y - constant - slope * x) ** 2).sum()) / (len(x) - 2))
    half = _quantile(len(x)) * scatter / math.sqrt(spread)
    return Trend(constant, -slope, -slope - half, -slope + half, scatter, centre, spread, len(x))


def _quantile(count: int) -> float:
    return float(stdtrit(count - 2, 0.975))
