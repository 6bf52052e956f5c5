"""What repeated data is worth: R* fitted to runs that repeat theirs, or the published value.

Muennighoff et al. 2023, equation 5: see :func:`engine.effective_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import REPEATS, effective_tokens
from engine_scaling.laws.form import Array, Form, predicted
from engine_scaling.laws.solver import Data, fit
from engine_scaling.laws.spans import Span, quantiles
from engine_scaling.points.point import Point

PUBLISHED = Span(REPEATS, math.nan, math.nan)
"""R*_D of Muennighoff et al. 2023, who give no interval."""
_REPEATED, _RUNS, _FAR = 1.5, 4, 4.0
"""Epochs from which a run repeats data; how many such runs R* needs, one of them with this many."""
_CONSTANTS = 6
"""Constants of the law, R* among them."""
_GRID = np.geomspace(0.5, 500, 24)
_DRAWS = 60


@dataclass(frozen=True, slots=True)
class Repeats:
    """R*, whether it was ``fitted`` or is the published value, and the ``runs`` that repeat data, with
    their most ``epochs``."""

    value: Span
    fitted: bool
    runs: int
    epochs: float


def repeats_of(points: Sequence[Point], random: np.random.Generator) -> tuple[Repeats, Array]:
    """R* for these points, fitted where enough of them repeat their data; and R* fitted to resampled
    losses ``(draws,)``, none where the published value is taken.

    Residuals are scaled to the noise that is left after the fit's degrees of freedom.
    """
    epochs = np.array([1.0 if math.isnan(p.unique) else p.tokens / p.unique for p in points])
    runs, most = int((epochs > _REPEATED).sum()), float(epochs.max())
    if runs < _RUNS or most < _FAR:
        return Repeats(PUBLISHED, False, runs, most), np.empty(0)
    plain = np.log([[p.parameters for p in points], [p.loss for p in points]])
    data = Data(plain[:1], worths(points, _GRID), plain[1:], np.ones((1, len(points))))
    laws, cost = fit(data, Form())
    best = int(cost.argmin())
    around = _GRID[max(0, best - 1)], _GRID[min(best + 1, len(_GRID) - 1)]
    fine = np.geomspace(around[0], around[1], len(_GRID))
    _, finer = fit(Data(data.x, worths(points, fine), *data.arrays[2:]), Form(), laws[[best]])
    expected = predicted(laws[best], data.x, data.y[best])[0]
    residuals = data.z[0] - expected
    residuals -= residuals.mean()
    residuals *= math.sqrt(len(points) / max(1, len(points) - _CONSTANTS))
    drawn = expected + random.choice(residuals, (_DRAWS, len(points)))
    # Each resampled set of losses meets each value of the grid.
    again = Data(data.x, np.tile(data.y, (_DRAWS, 1)), drawn.repeat(len(_GRID), 0), data.weight)
    _, costs = fit(again, Form(), laws[[best]])
    found = np.array([_lowest(_GRID, row) for row in costs.reshape(_DRAWS, len(_GRID))])
    return Repeats(quantiles(_lowest(fine, finer), found), True, runs, most), found


def worths(points: Sequence[Point], repeats: Array) -> Array:
    """Logarithms of the points' effective tokens by each R*, ``(repeats, points)``."""
    unique = [p.tokens if math.isnan(p.unique) else p.unique for p in points]
    pairs = list(zip(unique, (p.tokens for p in points), strict=True))
    return np.log([[effective_tokens(u, d, float(r)) for u, d in pairs] for r in repeats])


def _lowest(grid: Array, cost: Array) -> float:
    """The value of least cost, between the grid's by a parabola through the lowest three."""
    at = int(np.clip(cost.argmin(), 1, len(cost) - 2))
    low, here, high = cost[at - 1 : at + 2]
    bend = low - 2 * here + high
    shift = np.clip((low - high) / 2 / bend, -1, 1) if bend > 0 else 0.0
    return float(grid[at] * (grid[1] / grid[0]) ** shift)
