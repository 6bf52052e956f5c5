"""Approach 2 of Hoffmann et al. 2022: a parabola over ln N for the runs of each budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine_scaling.laws.believed import Belief
from engine_scaling.laws.budgets import clusters, middle_of
from engine_scaling.laws.form import Array, predicted
from engine_scaling.laws.spans import Span, quantiles

_SIZES = 3
"""Sizes that a parabola needs."""
_WITHOUT = 0.025
"""Share of resampled parabolas without a lowest point among the sizes above which no best size is told,
as an end of its interval of 95 % would lie outside."""


@dataclass(frozen=True, slots=True)
class Parabola:
    """The best size of a budget. ``flops``: the runs' geometric mean; ``sizes``: how many; ``spread``:
    ratio of the largest to the smallest; ``optimum``: all parameters, None where the parabola has no
    lowest point among the sizes, or more than 2.5 % of those through resampled losses have none;
    ``without``: the share of these; ``bias``: the relative error of this method on losses that follow
    the believed law without noise, at these sizes, NaN where that parabola has no lowest point."""

    flops: float
    sizes: int
    spread: float
    optimum: Span | None
    without: float
    bias: float


@dataclass(frozen=True, slots=True)
class IsoFlop:
    """The parabolas, and the exponent of the best size over FLOPs by those whose optimum is told; None
    with fewer than two."""

    parabolas: tuple[Parabola, ...]
    exponent: Span | None


def isoflop(belief: Belief, drawn: Array) -> IsoFlop:
    """Fits the parabolas; ``drawn`` are resampled ln L ``(draws, points)`` of the believed law."""
    table = belief.table
    budgets = [b for b in clusters(table.flops) if len(set(table.all[b])) >= _SIZES]
    lowest = [_lowest(np.log(table.all[b]), np.vstack([table.z[b], drawn[:, b]])) for b in budgets]
    x, y = np.log(belief.chosen.way.sizes(table)), np.log(table.tokens)
    exact = predicted(belief.chosen.constants, x, y)
    parabolas = []
    for which, found in zip(budgets, lowest, strict=True):
        size = np.log(table.all[which])
        flops = middle_of(table.flops[which])
        true = belief.family.optima([belief.law.best], flops)[0]
        inside = (size.min() <= found) & (
            found <= size.max()
        )  # not where there is none, which is NaN
        without = float((~inside[1:]).mean())
        told = inside[0] and without <= _WITHOUT
        parabolas.append(
            Parabola(
                flops,
                len(set(size)),
                math.exp(np.ptp(size)),
                quantiles(math.exp(found[0]), np.exp(found[1:])) if told else None,
                without,
                _bias(size, exact[which], true),
            )
        )
    there = [i for i, p in enumerate(parabolas) if p.optimum is not None]
    if len(there) < 2:
        return IsoFlop(tuple(parabolas), None)
    slopes = _slopes(
        np.log([parabolas[i].flops for i in there]), np.array([lowest[i] for i in there]).T
    )
    return IsoFlop(tuple(parabolas), quantiles(slopes[0], slopes[1:]))


def _bias(size: Array, exact: Array, true: float) -> float:
    (lowest,) = _lowest(size, exact[None])
    inside = size.min() <= lowest <= size.max()
    return float(np.exp(lowest) / true) - 1 if inside else math.nan


def _lowest(x: Array, z: Array) -> Array:
    """Where the parabolas through ``z`` ``(draws, points)`` over ``x`` are lowest, NaN where they open
    downward; ``(draws,)``. They are fitted to the loss itself, as in the paper."""
    middle = x.mean()
    powers = np.stack([np.ones_like(x), x - middle, (x - middle) ** 2], 1)
    _, slope, bend = np.linalg.pinv(powers) @ np.exp(z).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bend > 0, middle - slope / 2 / bend, np.nan)


def _slopes(x: Array, y: Array) -> Array:
    """The slopes of lines of least squares through ``y`` ``(draws, points)`` over ``x``."""
    off = x - x.mean()
    slopes: Array = (y - y.mean(1, keepdims=True)) @ off / (off @ off)
    return slopes
