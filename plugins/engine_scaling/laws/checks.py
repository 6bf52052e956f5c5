"""Refuses points that tell no law, and says what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine import ScalingLaw, SpecError
from engine_scaling.laws.bootstrap import Fitted
from engine_scaling.laws.family import Family
from engine_scaling.laws.form import Array
from engine_scaling.laws.ways import Table
from engine_scaling.points.point import Points, some

LEAST = 7
"""Points below which the five constants of a law have no room for an error."""
_ALIKE = 1.05
"""Ratio up to which sizes, tokens or ratios are the same."""
_SAME_LOSS = 1.001
"""Ratio up to which losses are the same: twice the compute changes them by far more."""
_EXPLAINED = 0.5
"""Share of the variance of ln L that a law must explain, and that a rise must explain to be one."""


def check_points(points: Points) -> None:
    """Raises SpecError for points that are too few or too much alike."""
    count = len(points.points)
    if count < LEAST:
        missing = some([f"{name}: {why}" for name, why in points.left_out], "; ")
        raise SpecError(
            f"{count} finished trainings are too few for a law: at least {LEAST} are needed"
            + (f" (left out: {missing})" if missing else ""),
            hint="train more sizes, at two budgets or more",
        )
    n, d, c = (
        np.array([getattr(p, name) for p in points.points])
        for name in ("parameters", "tokens", "flops")
    )
    for values, told, mend in (
        (n, "have one size: nothing tells how the loss falls with parameters", "train other sizes"),
        (d, "see the same tokens: nothing tells how the loss falls with data", "vary the budget"),
        (
            d / n,
            "have the same tokens per parameter: nothing tells size and data apart",
            "train several sizes with each budget",
        ),
    ):
        if np.ptp(np.log(values)) < np.log(_ALIKE):
            raise SpecError(f"all {count} trainings {told}", hint=mend)
    losses = np.array([p.loss for p in points.points])
    if losses.max() < _SAME_LOSS * losses.min():
        raise SpecError(
            f"the losses of all {count} trainings are the same within "
            f"{losses.max() / losses.min() - 1:.2%}: nothing tells how the loss falls",
            hint="look at the learning rate, and at whether each run's own last model was evaluated",
        )
    if _rise(n, d, losses):
        raise SpecError(
            f"the losses of these {count} trainings rise with parameters and tokens: larger trainings "
            "are worse, and no law says that",
            hint="look at the learning rate of the larger ones, and at the metric: is it a loss?",
        )
    if c.max() / c.min() < 2:
        raise SpecError(
            f"all {count} trainings have one budget, {c.max():.2g} FLOPs: nothing tells how the loss "
            "falls with compute",
            hint="train with a budget four times smaller, and one sixteen times smaller",
        )


def _rise(n: Array, d: Array, losses: Array) -> bool:
    """Whether the plane through ln L over ln N and ln D rises with both, and explains ln L."""
    z = np.log(losses)
    planes = np.stack([np.ones_like(z), np.log(n), np.log(d)], 1)
    found = np.linalg.lstsq(planes, z)[0]
    left: Array = z - planes @ found
    return bool(found[1:].min() > 0 and left.var() < (1 - _EXPLAINED) * z.var())


def check_fit(table: Table, fits: Sequence[Fitted]) -> None:
    """Raises SpecError if no law explains the losses."""
    explained = max(1 - float(f.residuals.var() / table.z[f.kept(table)].var()) for f in fits)
    if explained < _EXPLAINED:
        best = min(f.noise for f in fits)
        raise SpecError(
            f"no law fits these points: the best is off by {best:.1%} (rms), and the losses differ by "
            f"{float(table.z.std()):.1%} in all",
            hint="look for runs with another learning rate, data or evaluation than the others",
        )


def check_sides(table: Table, family: Family, law: ScalingLaw) -> None:
    """Raises SpecError if the law rises, or all models are too small for their budgets or too large: by
    the law, where no budget has sizes on both sides of its best one."""
    for exponent, grown, kept in (
        (law.alpha, "parameters", "tokens"),
        (law.beta, "tokens", "parameters"),
    ):
        if exponent <= 0:
            raise SpecError(
                f"the losses rise with {grown}, with {kept} as they are: the law that predicts best "
                f"has the exponent {exponent:.3g} for {grown}",
                hint=f"look at the learning rate of the runs with the most {grown}, and at the metric",
            )
    if table.turning(table.kept[""]):
        return
    best: Array = np.array([family.optima([law], float(c))[0] for c in table.flops])
    off = np.log(table.all / best)
    if (off > 0).all() or (off < 0).all():
        side, other = ("large", "smaller") if off[0] > 0 else ("small", "larger")
        raise SpecError(
            f"all models are too {side} for their budgets, by {np.exp(np.abs(off).min()):.2g} times or "
            "more: the best size lies outside of the trained ones, and cannot be told",
            hint=f"train {other} models with the same budgets",
        )
