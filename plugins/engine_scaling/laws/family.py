"""How the models of the runs grow: their embedding and their FLOPs with size, and the best size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import ScalingLaw
from engine_scaling.laws.form import Array
from engine_scaling.laws.ways import Table

_REACH = 25.0
"""Powers of e below and above the runs' sizes in which the best size is sought."""
_COARSE, _FINE = 0.1, 1e-3
"""Steps of ln N of the search."""


@dataclass(frozen=True, slots=True)
class Family:
    """Lines through logarithms: ``embedding`` of the parameters that are not in the body over those
    that are, None if the body is unknown or all; ``flops`` of FLOPs a token over all parameters. Each
    is slope and height. ``middle``: ln N of the runs' middle."""

    embedding: tuple[float, float] | None
    flops: tuple[float, float]
    middle: float

    @classmethod
    def of(cls, table: Table) -> Family:
        """The family of a table's models."""
        size = np.log(table.all)
        rest = table.all - table.body
        known = bool(np.isfinite(rest).all()) and bool((rest > 0).all())
        return cls(
            _line(np.log(table.body), np.log(rest)) if known else None,
            _line(size, np.log(table.flops / table.fresh)),
            float(size.mean()),
        )

    def all_of(self, body: Array) -> Array:
        """All parameters of models of which so many are in the body."""
        if self.embedding is None:
            return body
        slope, height = self.embedding
        return np.asarray(body + np.exp(height + slope * np.log(body)))

    def body_of(self, parameters: float) -> float:
        """The parameters in the body of a model of so many; NaN if unknown."""
        if self.embedding is None:
            return np.nan
        grid = np.log(parameters) + np.linspace(-12, 0, 4001)
        return float(np.exp(np.interp(np.log(parameters), np.log(self.all_of(np.exp(grid))), grid)))

    def tokens(self, parameters: Array, flops: float) -> Array:
        """The tokens that models of so many parameters see for ``flops``."""
        slope, height = self.flops
        return np.asarray(flops / np.exp(height + slope * np.log(parameters)))

    def optima(self, laws: Sequence[ScalingLaw], flops: float) -> Array:
        """All parameters of least loss for ``flops`` by each law, of shape ``(laws,)``."""
        constants = np.array([(o.E, o.A, o.alpha, o.B, o.beta) for o in laws])
        whole = np.array([o.counted == "all" for o in laws])
        offsets = np.arange(-_REACH, _REACH, _COARSE)
        middle = np.full(len(laws), self.middle)
        for step in (_COARSE, _FINE):
            grid = middle[:, None] + offsets
            body = np.exp(grid)
            n = self.all_of(body)
            loss = _losses(constants, np.where(whole[:, None], n, body), self.tokens(n, flops))
            at = np.clip(loss.argmin(1), 1, len(offsets) - 2)
            rows = np.arange(len(laws))
            low, here, high = (loss[rows, at + i] for i in (-1, 0, 1))
            bend = low - 2 * here + high
            shift = np.where(bend > 0, (low - high) / 2 / np.where(bend > 0, bend, 1), 0)
            middle = grid[rows, at] + step * np.clip(shift, -1, 1)
            offsets = np.arange(-_COARSE, _COARSE, _FINE)
        return self.all_of(np.exp(middle))


def _losses(constants: Array, n: Array, d: Array) -> Array:
    e, a, alpha, b, beta = (constants[:, i, None] for i in range(5))
    return np.asarray(e + a * n**-alpha + b * d**-beta)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and height of the line of least squares; flat where all x are the same."""
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread)) if np.ptp(x) > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
