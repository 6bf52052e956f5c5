"""All that `engine scaling fit` says of a set of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from engine_scaling.laws.believed import Belief, believe
from engine_scaling.laws.bootstrap import draws
from engine_scaling.laws.constants import Constant, constants_of
from engine_scaling.laws.frontiers import Frontier, PowerLaw, frontier, power_laws
from engine_scaling.laws.influence import Influence, influences, outliers
from engine_scaling.laws.isoflop import IsoFlop, isoflop
from engine_scaling.laws.spans import Span
from engine_scaling.points.point import Point, Points

AHEAD = (1, 4, 10)
"""Factors over the largest budget for which the best model is said."""
_DRAWS = 200
"""Resampled sets of losses for the intervals of the other methods."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best model for ``factor`` times the largest budget, ``flops`` in all."""

    factor: int
    flops: float
    parameters: Span
    tokens: Span
    loss: Span


@dataclass(frozen=True, slots=True)
class Study:
    """The believed law, what it predicts, and what the other methods say."""

    points: Points
    belief: Belief
    optima: tuple[Optimum, ...]
    constants: tuple[Constant, ...]
    isoflop: IsoFlop
    frontier: Frontier
    power_laws: tuple[PowerLaw, ...]
    influences: tuple[Influence, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The study for machines; what is unknown or not told is null."""
        belief = self.belief
        found = {
            "metric": self.points.metric,
            "bits_per_byte": bits_per_byte(self.points),
            "law": {**asdict(belief.law.best), "variant": belief.variants[0].name},
            "noise": belief.law.noise,
            "tested": belief.tested,
            "flops": belief.law.flops,
            "optima": [asdict(one) for one in self.optima],
            "variants": [asdict(one) for one in belief.variants],
            "constants": [asdict(one) for one in self.constants],
            "isoflop": asdict(self.isoflop),
            "frontier": asdict(self.frontier),
            "power_laws": [asdict(one) for one in self.power_laws],
            "repeats": asdict(belief.repeats),
            "influences": [asdict(one) for one in self.influences],
            "points": [asdict(one) for one in self.points.points],
            "left_out": [{"name": name, "reason": why} for name, why in self.points.left_out],
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = _plain(found)
        return plain


def study(points: Points, seed: int = 0) -> Study:
    """Fits, and applies every method. Raises SpecError where the points do not tell a law."""
    belief = believe(points, seed=seed)
    drawn = draws(belief.chosen, belief.table, _DRAWS, np.random.default_rng(seed))[1]
    return Study(
        points,
        belief,
        tuple(_optimum(belief, factor) for factor in AHEAD),
        tuple(constants_of(belief)),
        isoflop(belief, drawn),
        frontier(belief, drawn),
        power_laws(belief, drawn, AHEAD),
        tuple(influences(belief)),
        tuple(_notes(points, belief)),
    )


def bits_per_byte(points: Points) -> float:
    """Bits per byte that one nat per token is, the same for all runs of one tokenizer and text; NaN if
    unknown."""
    known = [p.bits_per_byte / p.loss for p in points.points if math.isfinite(p.bits_per_byte)]
    return float(np.median(known)) if known else math.nan


def seed_noise(points: Points) -> float:
    """Standard deviation of ln L among runs that differ in the seed alone, pooled; NaN without any."""
    groups: dict[tuple[float, float], list[Point]] = {}
    for point in points.points:
        groups.setdefault((point.parameters, point.tokens), []).append(point)
    losses = [np.log([p.loss for p in g]) for g in groups.values() if len({p.seed for p in g}) > 1]
    free = sum(len(group) - 1 for group in losses)
    return math.sqrt(sum(((g - g.mean()) ** 2).sum() for g in losses) / free) if free else math.nan


def _optimum(belief: Belief, factor: int) -> Optimum:
    flops = belief.law.flops[1] * factor
    return Optimum(factor, flops, *belief.optimum(flops))


def _notes(points: Points, belief: Belief) -> list[str]:
    notes = list(points.notes)
    if not belief.tested:
        notes.append(
            "No budget can be predicted from smaller ones: that needs six runs or more of two budgets, "
            "and a budget four times larger. Which variant is right is not told, so the "
            "intervals span all of them."
        )
    if not np.isfinite(belief.table.body).all():
        notes.append(
            "N counts all parameters, as the body's are not known of all runs (column body, or runs of "
            "a version that records them)."
        )
    if not (points.tokenizer and points.held_out):
        notes.append("That tokenizer and held-out text are the same is not known of all runs.")
    notes += [
        f"{name} lies {share:+.1%} off the law, far more than the others."
        for name, share in outliers(belief)
    ]
    if far := outliers(belief, used=False):
        told = ", ".join(f"{name} ({share:+.1%})" for name, share in far)
        notes.append(f"Far off the law, which leaves them out: {told}.")
    noise = seed_noise(points)
    if math.isfinite(noise):
        notes.append(f"Runs that differ in the seed alone differ by {noise:.2%} (rms).")
    repeats = belief.repeats
    if repeats.runs:
        value = repeats.value
        whence = (
            f"R* = {value.value:.3g} [{value.low:.3g}, {value.high:.3g}], fitted to them"
            if repeats.fitted
            else f"R* = {value.value:.3g} of Muennighoff et al. 2023, as these are too few to fit it"
        )
        notes.append(
            f"{repeats.runs} runs repeat their data, up to {repeats.epochs:.3g} epochs. D counts "
            f"effective tokens: {whence}."
        )
    return notes


def _plain(value: Any) -> Any:
    """The value with null for figures that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
