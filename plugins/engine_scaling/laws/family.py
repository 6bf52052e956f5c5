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
_LARGEST = 1e300
"""In place of a loss that overflows, since losses are subtracted."""
_COARSE, _FINE = 0.1, 1e-3
"""Steps of ln N of the search."""
_BETWEEN = 0.01
"""Step of ln N between which sizes are interpolated."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the runs' models grow.

    ``embedding``: slope and height of the line of ln(embedding and head) over ln(body), None if the
    body is unknown or is all. ``flops``: FLOPs of a token for each parameter of the body and of the
    rest. ``line``: in place of these slope and height of ln FLOPs of a token over ln N, where there is
    no rest or the runs give one of them a negative share. ``middle``: ln N of the runs' middle.
    """

    embedding: tuple[float, float] | None
    flops: tuple[float, float] | None
    line: tuple[float, float]
    middle: float

    @classmethod
    def of(cls, table: Table) -> Family:
        """The family of a table's models."""
        rest, each = table.all - table.body, table.flops / table.fresh
        line, middle = _line(np.log(table.all), np.log(each)), float(np.log(table.all).mean())
        if not (np.isfinite(rest).all() and (rest > 0).all()):
            return cls(None, None, line, middle)
        # Least squares of relative errors.
        parts = np.stack([table.body, rest], 1) / each[:, None]
        shares = np.linalg.lstsq(parts, np.ones(len(each)), rcond=None)[0]
        flops = (float(shares[0]), float(shares[1])) if shares.min() >= 0 else None
        return cls(_line(np.log(table.body), np.log(rest)), flops, line, middle)

    def all_of(self, body: Array) -> Array:
        """All parameters of models of which so many are in the body."""
        return body + self._rest(body)

    def body_of(self, parameters: Array) -> Array:
        """The parameters in the body of models of so many; all of them if the body is unknown."""
        grid = self.middle + np.arange(-_REACH - 5, _REACH + 5, _BETWEEN)
        return np.exp(np.interp(np.log(parameters), np.log(self.all_of(np.exp(grid))), grid))

    def tokens(self, parameters: Array, flops: float) -> Array:
        """The tokens that models of so many parameters see for ``flops``."""
        return flops / self._each(self.body_of(parameters))

    def _rest(self, body: Array) -> Array:
        if self.embedding is None:
            return np.zeros_like(body)
        slope, height = self.embedding
        return np.exp(height + slope * np.log(body))

    def _each(self, body: Array) -> Array:
        """FLOPs of a token."""
        if self.flops is None:
            slope, height = self.line
            return np.exp(height + slope * np.log(self.all_of(body)))
        found: Array = self.flops[0] * body + self.flops[1] * self._rest(body)
        return found

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
            loss = _losses(constants, np.where(whole[:, None], n, body), flops / self._each(body))
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
    with np.errstate(over="ignore"):  # a law that is steep in one of them, far outside the runs
        found = e + a * n**-alpha + b * d**-beta
    return np.asarray(np.minimum(found, _LARGEST))


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and height of the line of least squares; flat where all x are the same."""
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread)) if np.ptp(x) > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
