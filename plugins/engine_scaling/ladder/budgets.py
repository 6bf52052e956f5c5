"""How much compute a ladder takes, and how long: from the measured speed and the time asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine import SpecError
from engine_scaling.ladder.models import Template
from engine_scaling.ladder.predictions import HeldOut
from engine_scaling.ladder.rungs import Ladder, Rung, middle
from engine_scaling.ladder.speed import Speed
from engine_scaling.points.point import some

STEP = 4
"""Factor between budgets."""
FEWEST = 3
"""Sizes that a budget needs: two tell no optimum."""
REPEATED = 2
"""Repetitions of one run, with other seeds."""


def budgets_of(largest: float, number: int) -> list[float]:
    """Budgets a factor of four apart, from the smallest on, in three digits."""
    return [float(f"{largest / STEP**i:.3g}") for i in reversed(range(number))]


def largest_budget(
    template: Template, speed: Speed, seconds: float, budgets: int, number: int
) -> float:
    """The FLOPs of the largest budget with which the fitted runs take about ``seconds`` in all."""
    ladder = Ladder(template, math.inf, 0.0, least_steps=0)
    low, high = 1e6, 1e24
    for _ in range(40):
        half = math.sqrt(low * high)
        took = fitted_seconds(ladder, speed, budgets_of(half, budgets), number)
        low, high = (half, high) if took < seconds else (low, half)
    return low


def fitted_seconds(
    ladder: Ladder, speed: Speed, budgets: Sequence[float], number: int, repeated: int = 0
) -> float:
    """The time of the fitted runs, with ``repeated`` repetitions at the second budget. Sizes at edges
    come on top, as only the losses tell them."""
    trial, batch = replace(ladder, skipped={}), ladder.template.batch
    each = [
        [speed.seconds(r.size, r.steps, batch) for r in trial.rungs(budget, at, number)]
        for budget in budgets
        for at in (middle(budget, ()),)
    ]
    again = each[min(1, len(each) - 1)]
    return sum(map(sum, each)) + repeated * (sum(again) / len(again) if again else 0.0)


def chosen_budgets(
    ladder: Ladder, speed: Speed, seconds: float, flops: float | None, budgets: int, number: int
) -> list[float]:
    """The budgets in FLOPs, from ``flops`` on, or such that the fitted runs take ``seconds`` in all.

    Raises SpecError where one has fewer than three sizes, or the text is too short for it.
    """

    def lasting(seconds: float) -> list[float]:
        return budgets_of(largest_budget(ladder.template, speed, seconds, budgets, number), budgets)

    found = budgets_of(flops * STEP ** (budgets - 1), budgets) if flops else lasting(seconds)
    lacking = _lacking(ladder, found, number)
    if lacking is None:
        return found
    option, more = ("--flops", "a larger --flops") if flops else ("--budget", "a larger --budget")
    tried = () if flops else (seconds * tenths / 10 for tenths in range(11, 101))
    enough = next((one for one in tried if not _lacking(ladder, lasting(one), number)), None)
    if enough:
        more = f"--budget {math.ceil(enough / 60)}m"
    raise SpecError(
        f"{option}: {lacking}",
        hint=f"where steps are too few give {more}, fewer --budgets or a smaller batch; where text is, "
        f"more text or a smaller {option}",
    )


def _lacking(ladder: Ladder, budgets: Sequence[float], number: int) -> str | None:
    """What the first budget with fewer than three sizes lacks."""
    for budget in budgets:
        trial = replace(ladder, skipped={})
        if len(trial.rungs(budget, middle(budget, ()), number)) < FEWEST:
            reasons = some([f"{name}: {why}" for name, why in trial.skipped.items()], "; ")
            return f"with {budget:.2g} FLOPs, fewer than {FEWEST} sizes can be trained ({reasons})"
    return None


def held_out_ahead(
    ladder: Ladder, largest: float, asked: Sequence[HeldOut]
) -> Iterator[tuple[HeldOut, Rung | str]]:
    """The held-out runs as they are thought of before the fit, with a published law's best size; in
    place of one that cannot be made the reason."""
    for one in asked:
        budget = largest * one.factor
        best = ladder.template.nearest(middle(budget, ()), ladder.lr_power)
        size = ladder.template.size(best.width * one.wider, ladder.lr_power)
        yield one, ladder.tried(budget, size)
