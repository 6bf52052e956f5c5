"""The binomial likelihood of scores that rise along a logistic curve from chance to a ceiling.

p(x) = c + a·σ(k·(x − m)): c is chance, c + a ≤ 1 the ceiling, m the middle, where p is half way between
them. For given m and k the log-likelihood is concave in a, so only m and k need a search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

Array = NDArray[np.float64]
_LEAST = 1e-12
"""Distance of a probability from 0 and 1, so that its logarithm is finite."""
_NEWTON = 40
"""Most steps of Newton's method for the rise, each within a bracket that it narrows."""
_CLOSE = 1e-6
"""Likelihood that may be lacking: half the Newton decrement's square."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Scores at K places: ``x`` and ``score``, a share of ``n`` items, each of shape ``_K``; and the
    score by ``chance``."""

    x: Array
    score: Array
    n: Array
    chance: float

    def log_likelihood(self, p: Array) -> Array:
        """Of probabilities ``_…K``, over the places, without terms that do not depend on them."""
        p = np.clip(p, _LEAST, 1 - _LEAST)
        right = self.n * self.score
        return np.asarray((xlogy(right, p) + xlogy(self.n - right, 1 - p)).sum(-1))

    def shape(self, middle: Array, slope: Array) -> Array:
        """σ(k·(x − m)) of curves ``_…``, at each place: ``_…K``."""
        return np.asarray(expit(slope[..., None] * (self.x - middle[..., None])))

    def at(self, middle: Array, slope: Array, rise: Array) -> Array:
        """The log-likelihood of curves, ``_…``."""
        return self.log_likelihood(self.chance + rise[..., None] * self.shape(middle, slope))

    def best_rise(self, middle: Array, slope: Array) -> Array:
        """The rise of greatest likelihood for each middle and slope, ``_…``."""
        shape = self.shape(middle, slope)
        right = self.n * self.score

        def derivatives(rise: Array) -> tuple[Array, Array]:
            p = np.clip(self.chance + rise[..., None] * shape, _LEAST, 1 - _LEAST)
            one, other = right / p, (self.n - right) / (1 - p)
            first = (shape * (one - other)).sum(-1)
            return first, -(shape**2 * (one / p + other / (1 - p))).sum(-1)

        low, high = np.zeros(shape.shape[:-1]), np.full(shape.shape[:-1], 1 - self.chance)
        falls, grows = derivatives(low)[0] <= 0, derivatives(high)[0] >= 0
        low, high = np.where(grows, high, low), np.where(falls, low, high)
        rise = (low + high) / 2
        for _ in range(_NEWTON):
            first, second = derivatives(rise)
            second = np.minimum(second, -_LEAST)
            if np.where(low < high, first**2 / -second, 0.0).max() < 2 * _CLOSE:
                break
            low, high = np.where(first > 0, rise, low), np.where(first > 0, high, rise)
            newton = rise - first / second
            rise = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
        return np.asarray(rise)

    def best(self, middle: Array, slope: Array) -> Array:
        """The log-likelihood with the best rise, ``_…``."""
        return self.at(middle, slope, self.best_rise(middle, slope))
