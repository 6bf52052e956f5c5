"""The logistic curve of greatest likelihood, and all curves that the scores do not rule out.

A figure's 95 % interval is its range over the curves whose likelihood ratio to the best is not
significant: its profile-likelihood interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import chdtr, chdtri, expit, fdtri

from engine_scaling.emergence.likelihood import Array, Observed

MIDDLES = (-3.0, 4.0)
"""Where the middle may lie, in ranges of the places from their first."""
_SLOPES = (math.log(0.3), math.log(200.0))
"""Logarithms of the slopes, per range of the places: from nearly a line to a step."""
_SLOPE_GRID = 12
_GRID = (31, 21)
"""Middles, and slopes of each, that the region of curves is made of."""
_HALVINGS = 17
"""Halvings of a bracket in which the region ends."""
_SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Curve:
    """The best curve and the region of those not ruled out.

    ``middle``, ``low``, ``high``: x half way between chance and ceiling with its interval, an end None
    where the scores do not bound it; ``slope``: per unit of x; ``rise``: ceiling less chance;
    ``misfit``: the probability of scores as far from the curve as these, if items were the only source
    of noise; ``scatter``: factor of the variance by which they are farther, 1 unless that is
    significant; ``rises``: whether a constant score fits significantly worse.
    """

    chance: float
    middle: float
    low: float | None
    high: float | None
    slope: float
    rise: float
    misfit: float
    scatter: float
    rises: bool
    _region: tuple[Array, Array, Array, Array]

    def score(self, x: Array) -> Array:
        """The best curve's score at each x."""
        return np.asarray(self.chance + self.rise * expit(self.slope * (x - self.middle)))

    def band(self, x: Array) -> tuple[Array, Array]:
        """The least and greatest score at each x over all curves of the region."""
        middle, slope, least, most = self._region
        shape = expit(slope[:, None] * (x - middle[:, None]))
        low = self.chance + least[:, None] * shape
        high = self.chance + most[:, None] * shape
        return low.min(0), high.max(0)


def fit(observed: Observed) -> Curve:
    """Fits a curve to scores at three places or more."""
    start, span = observed.x.min(), np.ptp(observed.x)
    scaled = Observed((observed.x - start) / span, observed.score, observed.n, observed.chance)
    middle, log_slope = _best(scaled)
    slope = np.exp(log_slope)
    rise = scaled.best_rise(middle, slope)
    most = float(scaled.at(middle, slope, rise))
    misfit, scatter, limit = _noise(scaled, scaled.chance + rise * scaled.shape(middle, slope))
    region = _Region(scaled, most - limit / 2)
    low, high = region.ends(float(middle))
    middles, slopes, least, greatest = region.curves(low, high)
    flat = float(scaled.log_likelihood(np.full(1, np.average(scaled.score, weights=scaled.n))))
    return Curve(
        chance=observed.chance,
        middle=start + span * float(middle),
        low=start + span * low if low > MIDDLES[0] else None,
        high=start + span * high if high < MIDDLES[1] else None,
        slope=float(slope) / span,
        rise=float(rise),
        misfit=misfit,
        scatter=scatter,
        rises=2 * (most - flat) > scatter * chdtri(2, _SIGNIFICANT),
        _region=(start + span * middles, slopes / span, least, greatest),
    )


def _best(observed: Observed) -> tuple[Array, Array]:
    """Middle and logarithm of the slope of the best curve: the best of a grid, then refined."""
    grid = np.meshgrid(np.linspace(*MIDDLES, 43), np.linspace(*_SLOPES, 16), indexing="ij")
    found = observed.best(grid[0], np.exp(grid[1]))
    at = np.unravel_index(int(found.argmax()), found.shape)

    def loss(point: Array) -> float:
        return -float(observed.best(point[0], np.exp(point[1])))

    refined = minimize(
        loss,
        [grid[0][at], grid[1][at]],
        method="Nelder-Mead",
        bounds=[MIDDLES, _SLOPES],
        options={"xatol": 1e-6, "fatol": 1e-9},
    )
    return refined.x[0], refined.x[1]


def _noise(observed: Observed, p: Array) -> tuple[float, float, float]:
    """The misfit, the scatter, and the limit of twice the log-likelihood ratio.

    Scores that scatter more than their items explain, as those of other seeds do, have a variance that
    is estimated (McCullagh and Nelder 1989, section 4.5): F replaces χ².
    """
    p = np.clip(p, 1e-9, 1 - 1e-9)
    distance = float((observed.n * (observed.score - p) ** 2 / (p * (1 - p))).sum())
    free = len(observed.x) - 3
    misfit = 1 - float(chdtr(free, distance)) if free > 0 else 1.0
    if misfit >= _SIGNIFICANT:
        return misfit, 1.0, float(chdtri(1, _SIGNIFICANT))
    scatter = distance / free
    return misfit, scatter, scatter * float(fdtri(1, free, 1 - _SIGNIFICANT))


class _Region:
    """The curves of at least a log-likelihood ``least``; sets of middles, slopes and rises are taken to
    have no gaps."""

    def __init__(self, observed: Observed, least: float) -> None:
        self._observed = observed
        self._least = least

    def ends(self, middle: float) -> tuple[float, float]:
        """The least and greatest middle, beside the best."""

        def inside(middles: Array) -> Array:
            return np.asarray(self._observed.best(middles, self._slopes(middles)) >= self._least)

        best = np.full(2, middle)
        low, high = _last(inside, best, np.array(MIDDLES))
        return float(low), float(high)

    def curves(self, low: float, high: float) -> tuple[Array, Array, Array, Array]:
        """Middles, slopes, and the least and greatest rise of each, all of one shape."""
        count, each = _GRID
        middles = np.linspace(low, high, count)
        best = np.log(self._slopes(middles))

        def likely(logs: Array) -> Array:
            return np.asarray(self._observed.best(middles, np.exp(logs)) >= self._least)

        ends = [_last(likely, best, np.full(count, end)) for end in _SLOPES]
        middle = np.repeat(middles, each)
        slope = np.exp(np.linspace(ends[0], ends[1], each, axis=1)).ravel()
        rise = self._observed.best_rise(middle, slope)
        shape = self._observed.shape(middle, slope)

        def inside(rises: Array) -> Array:
            p = self._observed.chance + rises[:, None] * shape
            return np.asarray(self._observed.log_likelihood(p) >= self._least)

        least, most = (
            _last(inside, rise, np.full(len(rise), end)) for end in (0, 1 - self._observed.chance)
        )
        return middle, slope, least, most

    def _slopes(self, middles: Array) -> Array:
        """The best slope of each middle, by grids that close in on it."""
        low, high = (np.full(len(middles), end) for end in _SLOPES)
        for _ in range(5):
            grid = np.linspace(low, high, _SLOPE_GRID)
            found = self._observed.best(np.broadcast_to(middles, grid.shape), np.exp(grid))
            best = np.take_along_axis(grid, found.argmax(0)[None], 0)[0]
            step = (high - low) / (_SLOPE_GRID - 1)
            low, high = np.maximum(best - step, _SLOPES[0]), np.minimum(best + step, _SLOPES[1])
        return np.asarray(np.exp(best))


def _last(inside: Callable[[Array], Array], start: Array, end: Array) -> Array:
    """The value farthest from each ``start`` towards its ``end`` that is inside."""
    reached = inside(end)
    near, far = start, end
    for _ in range(_HALVINGS):
        half = (near + far) / 2
        within = inside(half)
        near, far = np.where(within, half, near), np.where(within, far, half)
    return np.where(reached, end, near)
