"""Power laws of one variable through the best runs: L(N), L(D), and L(C) with the frontier's sizes.

Kaplan et al. 2020 ("Scaling Laws for Neural Language Models", section 1.2), here with an offset;
approach 1 of Hoffmann et al. 2022 takes the sizes of the best runs over FLOPs. A run is on the frontier
if no run with as much or less of the variable has a lower loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine_scaling.laws.believed import Belief
from engine_scaling.laws.form import Array, Form, predicted
from engine_scaling.laws.solver import Data, fit
from engine_scaling.laws.spans import Span, quantiles

Variable = Literal["N", "D", "C"]
_LEAST = 4
"""Runs on the frontier that three constants need."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """L = offset + (scale / x)^exponent of one variable; ``runs`` are on the frontier; ``largest``: the
    largest x of all runs; ``at``: the loss by the factor over it. With too few runs ``offset`` and
    ``exponent`` are None, and ``at`` is empty."""

    variable: Variable
    runs: int
    largest: float
    offset: Span | None
    exponent: Span | None
    at: dict[int, Span]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The names of the runs that are best for their FLOPs, and the exponent of their size over FLOPs,
    None with fewer than three."""

    names: tuple[str, ...]
    exponent: Span | None


def power_laws(belief: Belief, drawn: Array, factors: Sequence[int]) -> tuple[PowerLaw, ...]:
    """The three laws; ``drawn`` are resampled ln L ``(draws, points)`` of the believed law."""
    table = belief.table
    return (
        _power_law("N", table.all, table.z, drawn, factors),
        _power_law("D", table.tokens, table.z, drawn, factors),
        _power_law("C", table.flops, table.z, drawn, factors),
    )


def _power_law(
    variable: Variable, x: Array, z: Array, drawn: Array, factors: Sequence[int]
) -> PowerLaw:
    best = on_frontier(x, z)
    if len(best) < _LEAST:
        return PowerLaw(variable, len(best), float(x.max()), None, None, {})
    form = Form(data=False)
    log = np.log(x[best])[None]
    losses = np.vstack([z[None, best], drawn[:, best]])
    one = Data(log, np.zeros_like(log), losses[:1], np.ones_like(log))
    laws, _ = fit(one, form)
    again, _ = fit(Data(log, one.y, losses[1:], one.weight), form, near=laws)
    both = np.vstack([laws, again])
    offset, exponent = np.exp(both[:, 4]), both[:, 1]
    ahead = np.log(x.max() * np.array(factors))
    found = np.exp(predicted(both, ahead, np.zeros_like(ahead)))
    return PowerLaw(
        variable,
        len(best),
        float(x.max()),
        quantiles(offset[0], offset[1:]),
        quantiles(exponent[0], exponent[1:]),
        {f: quantiles(own[0], own[1:]) for f, own in zip(factors, found.T, strict=True)},
    )


def frontier(belief: Belief, drawn: Array) -> Frontier:
    """Approach 1, with the final losses of runs alone: within a run the learning rate has not decayed.

    The frontier is found anew in each draw, from the best run of each budget.
    """
    table = belief.table
    budgets = [np.flatnonzero(table.budget == b) for b in np.unique(table.budget)]
    z = np.vstack([table.z, drawn])
    best = np.array([group[z[:, group].argmin(1)] for group in budgets])
    if len(budgets) < 3:
        return Frontier(tuple(table.names[i] for i in best[:, 0]), None)
    x, y = np.log(table.flops[best]), np.log(table.all[best])
    off = x - x.mean(0)
    slopes = (off * (y - y.mean(0))).sum(0) / (off**2).sum(0)
    return Frontier(tuple(table.names[i] for i in best[:, 0]), quantiles(slopes[0], slopes[1:]))


def on_frontier(x: Array, z: Array) -> Array:
    """The numbers of the points that no other with as much or less of x beats, by x."""
    order = np.lexsort((z, x))
    lower = np.minimum.accumulate(z[order])
    first = np.concatenate([[True], lower[1:] < lower[:-1]])
    return np.asarray(order[first])
