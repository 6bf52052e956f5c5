"""How well a way predicts larger budgets from smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from engine_scaling.laws.form import Array, predicted
from engine_scaling.laws.solver import fit
from engine_scaling.laws.ways import STEP, Table, Way

LEAPS = (1, 2)
"""Leaps in steps of a factor of four between budgets: 4 and 16 times."""
_LEVEL = 0.05
"""Level of the test whether a way predicts clearly worse."""
_FEWEST = 3
"""Targets below which no way is called clearly worse."""


@dataclass(frozen=True, slots=True)
class Leaps:
    """Errors of prediction, ln predicted − ln measured, with the target's number and the leap; each of
    shape ``(predictions,)``."""

    errors: Array
    target: Array
    leap: Array

    @property
    def size(self) -> float:
        """Root of the mean square of all errors; infinite without any."""
        return _size(self.errors) if len(self.errors) else np.inf

    def at(self, leap: int) -> float:
        """The same for the leaps of one factor; NaN without any."""
        own = self.errors[self.leap == leap]
        return _size(own) if len(own) else np.nan


def leaps_of(way: Way, table: Table) -> Leaps:
    """Fits the runs up to each budget, and predicts those that are 4 and 16 times larger.

    The targets are the same for all ways: those that every rule keeps. A fit needs two budgets and one
    more run than the law has constants in its freest form, for all ways alike.
    """
    targets = np.logical_and.reduce(list(table.kept.values()))
    kept = table.kept[way.rule]
    tops = [
        top
        for top in sorted(set(table.budget))
        if (table.budget[kept] <= top).sum() > 5
        and len(set(table.budget[kept & (table.budget <= top)])) > 1
    ]
    errors, target, leap = [], [], []
    wanted = [
        (top, step, np.flatnonzero(targets & (table.budget == top + step)))
        for top in tops
        for step in LEAPS
    ]
    wanted = [one for one in wanted if len(one[2])]
    used = sorted({top for top, _, _ in wanted})
    if used:
        masks = np.array([(table.budget <= top).astype(float) for top in used])
        laws, _ = fit(way.data(table, masks), way.form)
        n = table.all if way.counted == "all" else table.body
        for top, step, which in wanted:
            law = laws[used.index(top)]
            found = predicted(law, np.log(n[which]), np.log(table.tokens[which]))
            errors += list(found - table.z[which])
            target += list(which)
            leap += [STEP**step] * len(which)
    return Leaps(np.array(errors), np.array(target, int), np.array(leap, int))


def clearly_worse(one: Leaps, best: Leaps) -> bool:
    """Whether the squared errors of ``one`` are larger than those of ``best``: a paired t-test over the
    targets, one-sided, at 5 %. Errors of the same target are averaged first, as they are not
    independent."""
    if len(one.errors) != len(best.errors):
        return True
    differences = one.errors**2 - best.errors**2
    targets = np.unique(one.target)
    means = np.array([differences[one.target == t].mean() for t in targets])
    if len(means) < _FEWEST or np.ptp(means) == 0:
        return False
    return bool(stats.ttest_1samp(means, 0, alternative="greater").pvalue < _LEVEL)


def _size(errors: Array) -> float:
    return float(np.sqrt((errors**2).mean()))
