"""Runs that a fit depends on: what changes when each is left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import ScalingLaw
from engine_scaling.laws.believed import Belief
from engine_scaling.laws.form import Array, law_of, predicted
from engine_scaling.laws.solver import fit

AHEAD = 10
"""Factor over the largest budget at which changes are measured."""
_OUTSIDE = 1.96
"""Standard deviations from which a change is outside of an interval of 95 %."""
_NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of absolute values."""
_FAR = 5
"""Standard deviations from which a run is far off."""
_EXACT = 1e-6
"""Deviation of ln L and ln N below which runs follow a law exactly, so that none matters."""


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving out a run changes at ten times the largest budget: relative changes of the predicted
    loss and of the best size. ``turns``: whether either is outside of the interval of 95 % that the
    other runs give."""

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
    constants and n runs, and the deviations as the other runs give them (DFFITS of Belsley, Kuh and
    Welsch 1980, "Regression Diagnostics", section 2.1).
    """
    table, chosen, law = belief.table, belief.chosen, belief.law
    way, kept = chosen.way, np.flatnonzero(chosen.kept(table))
    flops = law.flops[1] * AHEAD
    size, tokens, loss = (span.value for span in belief.optimum(flops))
    counted = size if way.counted == "all" else float(belief.family.body_of(np.array([size]))[0])

    def logarithms(laws: Sequence[ScalingLaw]) -> Array:
        """ln of the predicted loss and of the best size by each law, ``(2, laws)``."""
        losses = np.array([one.loss(counted, tokens) for one in laws])
        return np.log([losses, belief.family.optima(laws, flops)])

    spread = logarithms(law.draws[: law.groups[0]]).std(1)  # the believed variant's draws
    if spread.max() < _EXACT:
        return []
    weight = np.ones((len(kept), len(table.z)))
    weight[np.arange(len(kept)), kept] = 0
    data = way.data(table, weight)
    laws, _ = fit(data, way.form, near=chosen.constants[None])
    residuals = (data.z - predicted(laws, data.x, data.y)) * data.weight
    noise = np.sqrt((residuals**2).sum(1) / max(1, len(kept) - 1 - way.free()))
    changes = logarithms([law_of(one, way.counted) for one in laws]) - np.log([[loss], [size]])
    shares = np.abs(changes) / (spread[:, None] * noise / chosen.noise + _EXACT)
    largest = shares.max(0)
    return [
        Influence(
            table.names[kept[i]],
            math.expm1(changes[0, i]),
            math.expm1(changes[1, i]),
            bool(largest[i] > _OUTSIDE),
        )
        for i in np.argsort(-largest)
        if largest[i] > 2 * math.sqrt(way.free() / len(kept))
    ]
