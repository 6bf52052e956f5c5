"""Refits of all variants without single runs, and the variant that would be believed then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import ScalingLaw
from engine_scaling.laws.believed import Belief, ranked
from engine_scaling.laws.bootstrap import Fitted
from engine_scaling.laws.form import Array, law_of, predicted
from engine_scaling.laws.leaps import Leaps, enough
from engine_scaling.laws.solver import fit
from engine_scaling.laws.ways import Table


@dataclass(frozen=True, slots=True)
class Without:
    """What would be believed without a run: the variant's name, its law, and the standard deviation
    ``noise`` of the residuals of ln L, with the fit's degrees of freedom taken off."""

    variant: str
    law: ScalingLaw
    noise: float


def without_each(belief: Belief, runs: Array) -> list[Without]:
    """What would be believed without each of the runs, which are numbers of points.

    All variants are fitted again, to all runs and for every leap, and the choice among them is made
    anew. Each fit starts from the one with the run. Effective tokens stay as they are.
    """
    table = belief.table
    tried = [_refits(leaps, found, table, runs) for leaps, found in belief.tried]
    found = []
    for number, run in enumerate(runs):
        best = ranked([leaps[number] for leaps, _ in tried])[0]
        constants, way = tried[best][1][number], belief.tried[best][1].way
        others = table.kept[way.rule].copy()
        others[run] = False
        sizes, tokens = np.log(way.sizes(table)[others]), np.log(table.tokens[others])
        squares = (table.z[others] - predicted(constants, sizes, tokens)) ** 2
        noise = float(np.sqrt(squares.sum() / max(1, others.sum() - way.free())))
        found.append(Without(way.name, law_of(constants, way.counted), noise))
    return found


def without(found: Fitted, table: Table, runs: Array) -> Array:
    """The constants ``(runs, 5)`` of a way's fit without each of the runs."""
    laws: Array = _refitted(found, table, found.kept(table)[None], found.constants[None], runs)[0]
    return laws


def _refits(leaps: Leaps, found: Fitted, table: Table, runs: Array) -> tuple[list[Leaps], Array]:
    """The leaps without each run, and the constants ``(runs, 5)`` of the fit to all others."""
    way = found.way
    used = np.vstack([leaps.used.reshape(-1, len(table.z)), found.kept(table)])
    laws = _refitted(found, table, used, np.vstack([leaps.laws, found.constants]), runs)
    sizes, tokens = np.log(way.sizes(table)), np.log(table.tokens)
    again = []
    for number, run in enumerate(runs):
        told = np.array([enough(table.budget[one & (np.arange(len(one)) != run)]) for one in used])
        which = np.flatnonzero((leaps.target != run) & told[leaps.row])
        target = leaps.target[which]
        expected = predicted(
            laws[leaps.row[which], number], sizes[target, None], tokens[target, None]
        )
        again.append(Leaps(expected[:, 0] - table.z[target], target, leaps.factor[which]))
    return again, laws[-1]


def _refitted(found: Fitted, table: Table, used: Array, laws: Array, runs: Array) -> Array:
    """Constants ``(fits, runs, 5)`` of fits to the points ``used`` ``(fits, points)`` without each of
    the runs, from ``laws`` ``(fits, 5)``, which are those of all points used."""
    again = np.repeat(laws[:, None], len(runs), 1)
    fits, at = np.nonzero(used[:, runs])  # others do not change
    weight = used[fits].astype(float)
    weight[np.arange(len(fits)), runs[at]] = 0
    if len(fits):
        way = found.way
        again[fits, at], _ = fit(way.data(table, weight), way.form, near=again[fits, at][:, None])
    return again
