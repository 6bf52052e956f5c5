"""How well a way predicts larger budgets from smaller ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

from engine_scaling.laws.budgets import middle_of
from engine_scaling.laws.form import Array, predicted
from engine_scaling.laws.solver import fit
from engine_scaling.laws.ways import Table, Way

Length = Literal["near", "far"]
_LENGTHS: dict[Length, tuple[float, float]] = {"near": (1.8, 7), "far": (7, 28)}
"""Factors between budgets: about 4 and about 16 times. The bounds lie beside the factors 2 and 8 that
budgets often have, so that rounding of a run's tokens does not sort them apart."""
_LEAST = 6
"""Runs of at least two budgets that a fit needs, for all ways alike: one more than constants."""
_LEVEL = 0.05
"""Level of the test whether a way is clearly worse."""
ROUNDING = 1e-6
"""Difference of ln L that is none."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The leaps of one length: the factor between the budgets, as geometric mean, with the ``least``
    and the ``most``; how many ``runs`` are predicted, and the root mean square of the errors."""

    factor: float
    least: float
    most: float
    runs: int
    error: float


@dataclass(frozen=True, slots=True)
class Leaps:
    """Errors of prediction, ln predicted − ln measured, with the target's number and the factor
    between budgets; each of shape ``(predictions,)``.

    ``row`` numbers the fit that made each, ``laws`` are the fits' constants ``(fits, 5)``, and ``used``
    says which points they are fitted to, ``(fits, points)``.
    """

    errors: Array
    target: Array
    factor: Array
    row: Array = field(default_factory=lambda: np.empty(0, int))
    laws: Array = field(default_factory=lambda: np.empty((0, 5)))
    used: Array = field(default_factory=lambda: np.empty((0, 0), bool))

    @property
    def size(self) -> float:
        """Root of the mean square of all errors; infinite without any."""
        return _size(self.errors) if len(self.errors) else np.inf

    @property
    def runs(self) -> int:
        """How many runs are predicted, some of them from several budgets."""
        return len(np.unique(self.target))

    def reaches(self) -> dict[Length, Reach]:
        """The leaps by their length; a length that no leap has is left out."""
        found: dict[Length, Reach] = {}
        for length, (low, high) in _LENGTHS.items():
            own = (self.factor >= low) & (self.factor < high)
            if own.any():
                factor = self.factor[own]
                found[length] = Reach(
                    middle_of(factor),
                    float(factor.min()),
                    float(factor.max()),
                    len(np.unique(self.target[own])),
                    _size(self.errors[own]),
                )
        return found


def leaps_of(way: Way, table: Table) -> Leaps:
    """Fits the runs up to each budget, and predicts those of budgets about 4 and 16 times larger.

    The targets are the same for all ways: those that every rule keeps.
    """
    kept = table.kept[way.rule]
    wanted = [
        leap for leap in _leaps(table) if enough(table.budget[kept & (table.budget <= leap[0])])
    ]
    if not wanted:
        return Leaps(np.empty(0), np.empty(0, int), np.empty(0))
    tops = sorted({top for top, _, _ in wanted})
    used = np.array([kept & (table.budget <= top) for top in tops])
    laws, _ = fit(way.data(table, used.astype(float)), way.form)
    sizes = np.log(way.sizes(table))
    tokens = np.log(table.tokens)
    return Leaps(
        np.concatenate(
            [
                predicted(laws[tops.index(top)], sizes[which], tokens[which]) - table.z[which]
                for top, _, which in wanted
            ]
        ),
        np.concatenate([which for _, _, which in wanted]),
        np.concatenate([np.full(len(which), factor) for _, factor, which in wanted]),
        np.concatenate([np.full(len(which), tops.index(top)) for top, _, which in wanted]),
        laws,
        used,
    )


def _leaps(table: Table) -> Iterator[tuple[int, float, Array]]:
    """The largest budget to fit, the factor to a larger one, and the runs of that one."""
    targets = np.logical_and.reduce(list(table.kept.values()))
    middles = [middle_of(table.flops[table.budget == b]) for b in range(table.budget.max() + 1)]
    for top, low in enumerate(middles):
        for budget, high in enumerate(middles):
            which = np.flatnonzero(targets & (table.budget == budget))
            if len(which) and any(least <= high / low < most for least, most in _LENGTHS.values()):
                yield top, high / low, which


def clearly_worse(one: Leaps, best: Leaps) -> bool:
    """Whether the absolute errors of ``one`` are larger than those of ``best`` in the same leaps:
    Wilcoxon's signed-rank test over targets, one-sided, at 5 %. Errors of the same target are averaged
    first, as they are not independent. Fewer than five targets can call no way clearly worse."""
    differences = np.abs(one.errors) - np.abs(best.errors)
    means = np.array([differences[one.target == t].mean() for t in np.unique(one.target)])
    means[np.abs(means) < ROUNDING] = 0
    if not means.any():
        return False
    return bool(stats.wilcoxon(means, alternative="greater").pvalue < _LEVEL)


def enough(budgets: Array) -> bool:
    """Whether runs of these budgets are enough for a fit that predicts."""
    return len(budgets) >= _LEAST and len(np.unique(budgets)) > 1


def _size(errors: Array) -> float:
    return float(np.sqrt((errors**2).mean()))
