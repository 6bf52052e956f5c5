"""The budgets of a ladder, and the sizes of its models at each.

Budgets are a factor of four apart. At each, sizes lie on both sides of the size that is thought best:
by a published law at first, and then by the parabolas through the losses of the smaller budgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine import PUBLISHED_LAWS, ScalingLaw
from engine_scaling.ladder.models import Size, Template

REACH = 2.5
"""Ratio of the largest and of the smallest size at a budget to the middle one. Small models four times
off the best size lose more than any law of this form, and bend it where it matters."""
LEAST_STEPS = 100
"""Steps below which a run says more of its warm-up than of its size."""
_BEYOND = 8
"""Width of the widest model that may be best, over that of the widest fitted one: 64 times its compute
and more."""
_FIRST = "Hoffmann et al. 2022"
"""The law that is asked before any run is done. Its best sizes for so little compute are larger than
those of its refit, and nearer to what was measured: 1.3 to 1.7 times that, not 0.6 times."""
_SLOPE = (0.3, 0.7)
"""Range of the exponent a in N ∝ C^a that few budgets may tell; published are 0.46 to 0.73."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A run to be made: ``budget`` is the FLOPs asked for, ``steps`` what come nearest."""

    name: str
    budget: float
    size: Size
    steps: int
    repetition: int = 0


@dataclass(slots=True)
class Ladder:
    """Makes the runs of a ladder.

    ``unique``: tokens that are read before any is read again; ``skipped``: runs that were not made,
    with the reason; ``edges``: runs that are best of their budget though no further size tells how far
    the best is, with the reason.
    """

    template: Template
    unique: float
    lr_power: float
    least_steps: int = LEAST_STEPS
    skipped: dict[str, str] = field(default_factory=dict)
    edges: dict[str, str] = field(default_factory=dict)

    def tried(self, budget: float, size: Size, prefix: str = "c") -> Rung | str:
        """The run of a model at a budget; the reason where it has few steps or would repeat data."""
        batch = self.template.batch
        steps = round(budget / (size.token_flops * batch))
        if steps < self.least_steps:
            return f"{steps} steps, fewer than {self.least_steps}"
        if steps * batch > self.unique:
            return f"{steps * batch:,} tokens, more than the {int(self.unique):,} that are there"
        return Rung(f"{prefix}{name_of(budget, size)}", budget, size, steps)

    def rung(self, budget: float, size: Size) -> Rung | None:
        """The run of a model at a budget; None, with the reason in ``skipped``, where there is none."""
        rung = self.tried(budget, size)
        if isinstance(rung, Rung):
            return rung
        self.skipped[f"c{name_of(budget, size)}"] = rung
        return None

    def rungs(self, budget: float, middle: float, number: int) -> list[Rung]:
        """The runs at a budget, of ``number`` sizes around the middle one."""
        ratios = np.geomspace(1 / REACH, REACH, number) if number > 1 else np.ones(1)
        sizes = self.template.sizes(middle, ratios.tolist(), self.lr_power)
        while len(sizes) < number:  # the narrowest models are less than a head apart
            sizes.append(self.template.size(sizes[-1].width + self.template.grain, self.lr_power))
        return [rung for size in sizes if (rung := self.rung(budget, size))]

    def beyond(self, rungs: Sequence[Rung], losses: Mapping[str, float]) -> Rung | None:
        """One more size where the best of a budget's is at an edge; None elsewhere, and where there is
        none."""
        known = sorted((r for r in rungs if r.name in losses), key=lambda r: r.size.width)
        if len(known) < 2:
            return None
        best = min(known, key=lambda r: losses[r.name])
        ratio = REACH ** (2 / max(len(rungs) - 1, 1))
        if best is known[0]:
            size = self.template.nearest(best.size.parameters / ratio, self.lr_power)
            width = min(size.width, best.size.width - self.template.grain)
        elif best is known[-1]:
            size = self.template.nearest(best.size.parameters * ratio, self.lr_power)
            width = max(size.width, best.size.width + self.template.grain)
        else:
            return None
        if width < self.template.grain:
            self.edges[best.name] = "it is the narrowest model that there can be"
            return None
        more = self.rung(best.budget, self.template.size(width, self.lr_power))
        if more is None:
            self.edges[best.name] = "the next size could not be trained"
        return more

    def best(self, budget: float, law: ScalingLaw, widest: int) -> Size:
        """The model with the least loss at a budget by a law, among those up to ``_BEYOND`` times as
        wide as ``widest``."""
        grain = self.template.grain

        def loss(size: Size) -> float:
            counted = size.parameters if law.counted == "all" else size.body
            return law.loss(counted, budget / size.token_flops)

        widths = range(grain, _BEYOND * widest + 1, grain)
        return min((self.template.size(width, self.lr_power) for width in widths), key=loss)


def name_of(budget: float, size: Size) -> str:
    """The name of a model's run at a budget."""
    return f"{budget:.2g}-w{size.width}".replace("+", "")


def middle(budget: float, done: Sequence[tuple[Rung, float]]) -> float:
    """The parameters that are thought best at a budget, from runs with their losses at smaller ones."""
    optima = [
        (c, best)
        for c in sorted({rung.budget for rung, _ in done})
        if (best := _bottom([(r.size.parameters, loss) for r, loss in done if r.budget == c]))
    ]
    if not optima:
        return PUBLISHED_LAWS[_FIRST].optimum(budget)[0]
    slope = 0.5
    if len(optima) > 1:
        x, y = np.log(np.array(optima[-3:])).T
        slope = float(np.clip(np.polyfit(x, y, 1)[0], *_SLOPE))
    last, best = optima[-1]
    return float(best * (budget / last) ** slope)


def _bottom(points: Sequence[tuple[float, float]]) -> float | None:
    """Where the parabola through losses over ln N is lowest, at most a factor of two outside the sizes;
    the best size where there is no such parabola."""
    if not points:
        return None
    best = min(points, key=lambda one: one[1])[0]
    if len(points) < 3:
        return best
    x, y = np.log([n for n, _ in points]), np.array([loss for _, loss in points])
    bend, slope, _ = np.polyfit(x - x.mean(), y, 2)
    if bend <= 0:
        return best
    at = x.mean() - slope / (2 * bend)
    return float(np.exp(np.clip(at, x.min() - math.log(2), x.max() + math.log(2))))
