"""Runs that a fit depends on: what changes when each is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine_scaling.laws.believed import Belief
from engine_scaling.laws.form import law_of
from engine_scaling.laws.solver import fit

AHEAD = 10
"""Factor over the largest budget at which changes are measured."""
_TURNED = math.log(1.05), math.log(2)
"""Changes of ln L and ln N that turn a fit over, however wide its intervals are."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of absolute values."""
_FAR = 5
"""Standard deviations from which a run is far off."""
_EXACT = 1e-6
"""Deviation of ln L and ln N below which runs follow a law exactly, so that none matters."""


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving out a run changes at ten times the largest budget: relative changes of the predicted
    loss and of the best size. ``turns``: whether either leaves its interval of 95 %, the loss changes by
    more than 5 %, or the best size by more than a factor of two."""

    name: str
    loss: float
    size: float
    turns: bool


def outliers(belief: Belief) -> list[tuple[str, float]]:
    """The runs that lie far off the believed law, by how much, relative to the loss.

    Far is more than five standard deviations, estimated by the median of absolute residuals.
    """
    residuals = belief.chosen.residuals
    names = np.array(belief.table.names)[belief.chosen.kept(belief.table)]
    # A fit passes through about as many points as it has constants, which tell nothing.
    others = np.sort(np.abs(residuals))[belief.chosen.way.free() :]
    deviation = _NORMAL * float(np.median(others))
    far = np.abs(residuals) > max(_FAR * deviation, _EXACT)
    return [(str(names[i]), math.expm1(residuals[i])) for i in np.flatnonzero(far)]


def influences(belief: Belief) -> list[Influence]:
    """The runs with a large influence, the largest first.

    Large is a change of the predicted loss or of ln N of more than 2·√(p/n) standard deviations, with p
    constants and n runs (Belsley, Kuh and Welsch 1980, "Regression Diagnostics", section 2.1).
    """
    table, way = belief.table, belief.chosen.way
    kept = np.flatnonzero(belief.chosen.kept(table))
    weight = np.ones((len(kept), len(table.z)))
    weight[np.arange(len(kept)), kept] = 0
    flops = belief.law.flops[1] * AHEAD
    size, tokens, loss = belief.optimum(flops)
    laws, _ = fit(way.data(table, weight), way.form, near=belief.chosen.constants[None])
    found = [law_of(constants, way.counted) for constants in laws]
    n = size.value
    if way.counted == "body":
        n = float(belief.family.body_of(np.array([n]))[0])
    losses = np.array([law.loss(n, tokens.value) for law in found])
    sizes = belief.family.optima(found, flops)
    drawn = belief.law.draws[: belief.law.groups[0]]  # the believed variant's
    deviations = (
        np.std([math.log(law.loss(n, tokens.value)) for law in drawn]),
        np.std(np.log(belief.family.optima(drawn, flops))),
    )
    if max(deviations) < _EXACT:
        return []
    limit = 2 * math.sqrt(way.free() / len(kept))
    listed = []
    for i, point in enumerate(kept):
        changes = math.log(losses[i] / loss.value), math.log(sizes[i] / size.value)
        shares = [abs(c) / d if d > 0 else 0.0 for c, d in zip(changes, deviations, strict=True)]
        turns = (
            not (loss.low <= losses[i] <= loss.high and size.low <= sizes[i] <= size.high)
            or abs(changes[0]) > _TURNED[0]
            or abs(changes[1]) > _TURNED[1]
        )
        if max(shares) > limit or turns:
            by = [math.expm1(change) for change in changes]
            listed.append((max(shares), Influence(table.names[point], by[0], by[1], turns)))
    return [one for _, one in sorted(listed, key=lambda pair: -pair[0])]
