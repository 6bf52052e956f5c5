"""Resampled fits of a way, and the noise of runs around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_scaling.laws.form import Array, predicted
from engine_scaling.laws.solver import fit
from engine_scaling.laws.ways import Table, Way


@dataclass(frozen=True, slots=True)
class Fitted:
    """A way's fit: its constants ``(5,)``, the residuals ``(points used,)`` of ln L, and their standard
    deviation ``noise`` with the fit's degrees of freedom taken off."""

    way: Way
    constants: Array
    residuals: Array
    noise: float

    def kept(self, table: Table) -> Array:
        """Whether each point of the table is used."""
        return table.kept[self.way.rule]


def fitted(way: Way, table: Table) -> Fitted:
    """Fits a way to all points that it uses."""
    data = way.data(table)
    (constants,), _ = fit(data, way.form)
    residuals = (data.z - predicted(constants, data.x, data.y))[0]
    free = len(residuals) - way.free()
    return Fitted(way, constants, residuals, float(np.sqrt((residuals**2).sum() / free)))


def draws(
    found: Fitted,
    table: Table,
    number: int,
    random: np.random.Generator,
    tokens: Array | None = None,
) -> tuple[Array, Array]:
    """Constants ``(number, 5)`` fitted to resampled losses, and these as ln L ``(number, points)``.

    Residuals are drawn anew around the fit, so that the budgets and sizes stay as they were planned.
    They are scaled to the noise, which itself is drawn from its distribution (χ² over the degrees of
    freedom), as it is known from few runs only. Runs that the way leaves out, which other methods use,
    get residuals around their own losses.

    ``tokens``: logarithms of each draw's effective tokens ``(number, points)``, if not the table's.
    """
    free = len(found.residuals) - found.way.free()
    residuals = found.residuals - found.residuals.mean()
    size = float(np.sqrt((residuals**2).mean()))
    scale = found.noise / size if size > 0 else 0.0
    spread = np.sqrt(free / random.chisquare(free, number))[:, None] * scale
    middle = table.z.copy()
    middle[found.kept(table)] -= found.residuals
    z = middle + spread * random.choice(residuals, (number, len(middle)))
    laws, _ = fit(
        found.way.data(table, z=z, tokens=tokens), found.way.form, near=found.constants[None]
    )
    return laws, z
