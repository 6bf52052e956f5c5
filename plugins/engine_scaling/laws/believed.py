"""The law that is believed: the one that predicts larger budgets best from smaller ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine import FittedLaw, ScalingLaw
from engine_scaling.laws.bootstrap import Fitted, draws, fitted
from engine_scaling.laws.checks import check_fit, check_points, check_sides
from engine_scaling.laws.family import Family
from engine_scaling.laws.form import law_of
from engine_scaling.laws.leaps import ROUNDING, Leaps, Length, Reach, clearly_worse, leaps_of
from engine_scaling.laws.repeats import Repeats, repeats_of, worths
from engine_scaling.laws.spans import Span, quantiles
from engine_scaling.laws.ways import Table, ways
from engine_scaling.points.point import Points

BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to fit the law, and how well it fits and predicts, as roots of mean squares of errors of
    ln L: ``in_sample``; ``leaps`` by their length; ``predicts`` over all leaps, infinite where no run
    tells. ``predicted``: how many runs the leaps predict; ``tested``: whether it makes every leap that
    another makes, at least one; ``worse``: whether it is tested, and predicts clearly worse than the
    one that is believed; ``points``: how many it is fitted to."""

    name: str
    points: int
    law: ScalingLaw
    in_sample: float
    leaps: dict[Length, Reach]
    predicts: float
    predicted: int
    tested: bool
    worse: bool


@dataclass(frozen=True, slots=True)
class Belief:
    """The law that is believed with its draws, the table of all variants (the believed one first), and
    what they were found with. ``tried`` has the leaps and the fit of each variant, in the same order.
    """

    law: FittedLaw
    variants: tuple[Variant, ...]
    family: Family
    table: Table
    tried: tuple[tuple[Leaps, Fitted], ...]
    repeats: Repeats

    @property
    def chosen(self) -> Fitted:
        """The fit of the believed variant."""
        return self.tried[0][1]

    @property
    def tested(self) -> bool:
        """Whether any budget could be predicted from smaller ones, and so decides what is believed."""
        return math.isfinite(self.variants[0].predicts)

    def optimum(self, flops: float) -> tuple[Span, Span, Span]:
        """All parameters, tokens and loss of the best model for ``flops``, with data that is not
        repeated. The loss is that of the parameters and tokens which are given.

        The intervals of parameters and tokens take all draws together, whatever their variant.
        """
        best, *drawn = self.family.optima((self.law.best, *self.law.draws), flops)
        tokens = self.family.tokens(np.array([best, *drawn]), flops)
        body = float(self.family.body_of(np.array([best]))[0])
        loss = self.law.predict(best, body, float(tokens[0]))
        return (
            quantiles(best, np.array(drawn)),
            quantiles(tokens[0], tokens[1:]),
            Span(loss.loss, loss.low, loss.high),
        )


def believe(points: Points, *, seed: int = 0, bootstraps: int = BOOTSTRAPS) -> Belief:
    """Fits every variant and chooses the one with the smallest error of prediction.

    ``bootstraps`` are divided among the variants that do not predict clearly worse, and the believed
    one with all its constants free. Raises SpecError where the points do not tell a law.
    """
    check_points(points)
    random = np.random.default_rng(seed)
    repeats, values = repeats_of(points.points, random)
    table = Table.of(points.points, repeats.value.value)
    tried = [(leaps_of(way, table), fitted(way, table)) for way in ways(table)]
    check_fit(table, [found for _, found in tried])
    tried = [tried[number] for number in ranked([leaps for leaps, _ in tried])]
    best, chosen = tried[0]
    family, law = Family.of(table), law_of(chosen.constants, chosen.way.counted)
    check_sides(table, family, law)
    # A restriction's own draws do not show what it may cost, so the freest relative of the believed
    # variant always takes part.
    most = len(best.errors)
    worse = [
        (len(leaps.errors) < most or clearly_worse(leaps, best)) and found.way != chosen.way.freest
        for leaps, found in tried
    ]
    share = -(-bootstraps // worse.count(False))
    # Each draw takes another R*, drawn apart from its losses: by least squares the error of R* does not
    # depend on those of the other constants with R* fixed.
    values = np.resize(values, share) if len(values) else values
    tokens = worths(points.points, values) if len(values) else None
    drawn = [
        law_of(constants, found.way.counted)
        for (_, found), left_out in zip(tried, worse, strict=True)
        if not left_out
        for constants in draws(found, table, share, random, tokens)[0]
    ]
    return Belief(
        FittedLaw(
            best=law,
            draws=tuple(drawn),
            noise=chosen.noise,
            metric=points.metric,
            flops=(float(table.flops.min()), float(table.flops.max())),
            tokenizer=points.tokenizer,
            held_out=points.held_out,
            groups=(share,) * worse.count(False),
            repeats=repeats.value.value,
            drawn_repeats=tuple(map(float, values)) * worse.count(False),
        ),
        tuple(_variant(*one, most, left_out) for one, left_out in zip(tried, worse, strict=True)),
        family,
        table,
        tuple(tried),
        repeats,
    )


def ranked(leaps: Sequence[Leaps]) -> list[int]:
    """The numbers of the variants with these leaps, the one to believe first.

    A variant that leaves too few runs for every leap cannot be compared, and is last. Variants that
    differ from the best by rounding alone stay in their order, as all do without any leap.
    """
    most = max(len(one.errors) for one in leaps)
    alike = min(one.size for one in leaps if len(one.errors) == most) + ROUNDING
    return sorted(
        range(len(leaps)), key=lambda i: (len(leaps[i].errors) < most, max(leaps[i].size, alike))
    )


def _variant(leaps: Leaps, found: Fitted, most: int, left_out: bool) -> Variant:
    tested = len(leaps.errors) == most > 0
    return Variant(
        found.way.name,
        len(found.residuals),
        law_of(found.constants, found.way.counted),
        float(np.sqrt((found.residuals**2).mean())),
        leaps.reaches(),
        leaps.size,
        leaps.runs,
        tested,
        tested and left_out,
    )
