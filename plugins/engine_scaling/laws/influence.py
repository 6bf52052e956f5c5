"""Runs that a fit depends on: what changes when each is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import ScalingLaw
from engine_scaling.laws.believed import Belief
from engine_scaling.laws.family import Family
from engine_scaling.laws.form import Array, law_of, predicted
from engine_scaling.laws.left_out import without, without_each

AHEAD = 10
"""Factor over the largest budget at which changes are measured."""
_LOOKED_AT = 40
"""Runs that are left out at most, each by itself."""
_LOWEST = 1e-300
"""In place of a loss's end below zero, which much noise may give."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of absolute values."""
_FAR = 5
"""Standard deviations from which a run is far off."""
_EXACT = 1e-6
"""Deviation of ln L and ln N below which runs follow a law exactly, so that none matters."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The best model of the believed law for ten times the largest budget: its ``flops``,
    ``size`` with ``body`` of it in the body, ``tokens``, and the logarithms of the ``ends`` of the
    intervals of its loss and of its size, ``(2, 2)``."""

    family: Family
    flops: float
    size: float
    body: float
    tokens: float
    ends: Array

    @classmethod
    def of(cls, belief: Belief) -> _Ahead:
        flops = belief.law.flops[1] * AHEAD
        size, tokens, loss = belief.optimum(flops)
        body = float(belief.family.body_of(np.array([size.value]))[0])
        low = max(loss.low, _LOWEST)
        ends = np.log([[low, loss.high], [size.low, size.high]])
        return cls(belief.family, flops, size.value, body, tokens.value, ends)

    def logarithms(self, laws: Sequence[ScalingLaw]) -> Array:
        """ln of the model's loss, and of the best size, by each law: ``(2, laws)``."""
        losses = [
            one.loss(self.size if one.counted == "all" else self.body, self.tokens) for one in laws
        ]
        found: Array = np.log(np.array([losses, self.family.optima(laws, self.flops)]))
        return found


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving out a run changes at ten times the largest budget: relative changes of the loss and
    of the best size by the law that would be believed.

    ``turns``: whether either is so large that the laws with and without the run contradict each other,
    each with the interval of 95 % that is told: more than √2 times the way to the interval's end.
    ``variant``: the variant that would be believed, empty if it is the same.
    """

    name: str
    loss: float
    size: float
    turns: bool
    variant: str


def residuals_of(belief: Belief) -> Array:
    """ln measured − ln predicted of all points by the believed law, those that it leaves out, too."""
    table, found = belief.table, belief.chosen
    sizes = np.log(found.way.sizes(table))
    return table.z - predicted(found.constants, sizes, np.log(table.tokens))


def outliers(belief: Belief, *, used: bool = True) -> list[tuple[str, float]]:
    """The runs that lie far off the believed law, by how much, relative to the loss: those that it is
    fitted to, or else those that it leaves out.

    Far is more than five standard deviations, estimated by the median of absolute residuals of those
    that it is fitted to.
    """
    kept = belief.chosen.kept(belief.table)
    off = residuals_of(belief)
    # A fit passes through about as many points as it has constants, which tell nothing.
    others = np.sort(np.abs(off[kept]))[belief.chosen.way.free() :]
    deviation = _NORMAL * float(np.median(others))
    far = (np.abs(off) > max(_FAR * deviation, _EXACT)) & (kept == used)
    return [(belief.table.names[i], math.expm1(off[i])) for i in np.flatnonzero(far)]


def influences(belief: Belief) -> list[Influence]:
    """The runs with a large influence, the largest first.

    Without each run all variants are fitted again, and the choice among them is made anew. Large is a
    change of the predicted loss or of ln N of more than 2·√(p/n) standard deviations of the draws, with
    p constants and n runs, scaled to the noise of the other runs (DFFITS of Belsley, Kuh and Welsch
    1980, "Regression Diagnostics", section 2.1). Of more than 40 runs only 40 are left out: those that
    change the believed variant's own fit the most, and those farthest off it.
    """
    law, chosen, ahead = belief.law, belief.chosen, _Ahead.of(belief)
    spread = ahead.logarithms(law.draws).std(1)
    if spread.max() < _EXACT:
        return []
    runs = _looked_at(belief, ahead)
    others = without_each(belief, runs)
    best = ahead.logarithms([law.best])
    changes = ahead.logarithms([one.law for one in others]) - best
    noise = np.array([one.noise for one in others]) / chosen.noise
    shares = (np.abs(changes) / (spread[:, None] * noise + _EXACT)).max(0)
    room = np.where(changes > 0, ahead.ends[:, 1:] - best, best - ahead.ends[:, :1])
    turns = (np.abs(changes) > math.sqrt(2) * room).any(
        0
    )  # the other law's own interval is as wide
    return [
        Influence(
            belief.table.names[runs[i]],
            math.expm1(changes[0, i]),
            math.expm1(changes[1, i]),
            bool(turns[i]),
            others[i].variant if others[i].variant != chosen.way.name else "",
        )
        for i in np.argsort(-shares)
        if shares[i] > 2 * math.sqrt(chosen.way.free() / len(chosen.residuals))
    ]


def _looked_at(belief: Belief, ahead: _Ahead) -> Array:
    """The numbers of the runs to leave out."""
    table, found = belief.table, belief.chosen
    if len(table.z) <= _LOOKED_AT:
        return np.arange(len(table.z))
    kept = np.flatnonzero(found.kept(table))
    laws = [law_of(one, found.way.counted) for one in without(found, table, kept)]
    changes = np.abs(ahead.logarithms(laws) - ahead.logarithms([belief.law.best]))
    largest = kept[np.argsort(-(changes / (changes.max(1, keepdims=True) + _EXACT)).max(0))]
    farthest = np.argsort(-np.abs(residuals_of(belief)))
    return np.unique([*largest[: _LOOKED_AT // 2], *farthest[: _LOOKED_AT // 2]])
