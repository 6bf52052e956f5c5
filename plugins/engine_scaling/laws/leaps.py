"""How well a way predicts larger budgets from smaller ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from engine_scaling.laws.form import Array, predicted
from engine_scaling.laws.solver import fit
from engine_scaling.laws.ways import STEP, Table, Way

_LEAPS = (1, 2)
"""Leaps in steps of a factor of four between budgets: 4 and 16 times."""
_LEAST = 6
"""Runs of at least two budgets that a fit needs, for all ways alike: one more than constants."""
_LEVEL = 0.05
"""Level of the test whether a way is clearly worse."""
ROUNDING = 1e-6
"""Difference of ln L that is none."""


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

    def at(self, factor: int) -> float:
        """The same for the leaps of one factor; NaN without any."""
        own = self.errors[self.factor == factor]
        return _size(own) if len(own) else np.nan


def leaps_of(way: Way, table: Table) -> Leaps:
    """Fits the runs up to each budget, and predicts those whose budgets are 4 and 16 times larger.

    The targets are the same for all ways: those that every rule keeps.
    """
    targets = np.logical_and.reduce(list(table.kept.values()))
    kept = table.kept[way.rule]
    wanted = [
        (top, step, np.flatnonzero(targets & (table.budget == top + step)))
        for top in np.unique(table.budget)
        for step in _LEAPS
        if enough(table.budget[kept & (table.budget <= top)])
    ]
    wanted = [one for one in wanted if len(one[2])]
    if not wanted:
        return Leaps(np.empty(0), np.empty(0, int), np.empty(0, int))
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
        np.concatenate([np.full(len(which), STEP**step) for _, step, which in wanted]),
        np.concatenate([np.full(len(which), tops.index(top)) for top, _, which in wanted]),
        laws,
        used,
    )


def clearly_worse(one: Leaps, best: Leaps) -> bool:
    """Whether the absolute errors of ``one`` are larger than those of ``best``: Wilcoxon's signed-rank
    test over targets, one-sided, at 5 %. Errors of the same target are averaged first, as they are not
    independent. Fewer than five targets can call no way clearly worse."""
    if len(one.errors) != len(best.errors):  # too few runs are left to make every leap
        return True
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
