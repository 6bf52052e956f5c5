"""The law that is believed: the one that predicts larger budgets best from smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import FittedLaw, ScalingLaw
from engine_scaling.laws.bootstrap import Fitted, draws, fitted
from engine_scaling.laws.family import Family
from engine_scaling.laws.form import law_of
from engine_scaling.laws.leaps import Leaps, clearly_worse, leaps_of
from engine_scaling.laws.ways import Table, Way, ways
from engine_scaling.points import Points

REPEATS = 15.387756


@dataclass(frozen=True, slots=True)
class Prediction:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to fit the law, and how well it fits and predicts, as roots of mean squares of errors
    of ln L: ``in_sample``, ``leaps`` by the factor between budgets, and ``predicts`` over all leaps, the last two
    not finite where no run tells; ``worse``: whether it predicts clearly worse than the best."""

    way: Way
    points: int
    law: ScalingLaw
    in_sample: float
    leaps: dict[int, float]
    predicts: float
    worse: bool

    @property
    def name(self) -> str:
        """What the way is called in tables."""
        return self.way.name


@dataclass(frozen=True, slots=True)
class Belief:
    """The law that is believed, with the table of all variants, best first, and the family of models
    that it holds for."""

    law: FittedLaw
    variants: tuple[Variant, ...]
    family: Family
    table: Table

    def optimum(self, flops: float) -> tuple[Prediction, Prediction, Prediction]:
        """All parameters, tokens and loss of the best model for ``flops``."""
        laws = (self.law.best, *self.law.draws)
        best, *drawn = self.family.optima(laws, flops)
        tokens = self.family.tokens(np.array([best, *drawn]), flops)
        forecast = self.law.predict(best, self.family.body_of(best), float(tokens[0]))
        return (
            _spanned(best, np.array(drawn)),
            _spanned(tokens[0], tokens[1:]),
            Prediction(forecast.loss, forecast.low, forecast.high),
        )


def believe(points: Points, *, seed: int = 0, bootstraps: int = 1000) -> Belief:
    """Fits every variant and chooses the one with the smallest error of prediction.

    ``bootstraps`` are divided among the variants that do not predict clearly worse. Raises SpecError
    where the points do not tell a law.
    """
    table = Table.of(points.points, REPEATS)
    tried: list[tuple[Leaps, Fitted]] = [
        (leaps_of(w, table), fitted(w, table)) for w in ways(table)
    ]
    tried.sort(key=lambda one: one[0].size)  # stable: without any leap the plainest is first
    best = tried[0][0]
    kept = [found for leaps, found in tried if not clearly_worse(leaps, best)]
    random = np.random.default_rng(seed)
    share = -(-bootstraps // len(kept))
    drawn = [
        law_of(constants, found.way.counted)
        for found in kept
        for constants in draws(found, table, share, random)[0]
    ]
    chosen = tried[0][1]
    law = FittedLaw(
        best=law_of(chosen.constants, chosen.way.counted),
        draws=tuple(drawn),
        noise=chosen.noise,
        metric=points.metric,
        flops=(float(table.flops.min()), float(table.flops.max())),
        tokenizer=points.tokenizer,
        held_out=points.held_out,
    )
    variants = tuple(
        Variant(
            found.way,
            len(found.residuals),
            law_of(found.constants, found.way.counted),
            float(np.sqrt((found.residuals**2).mean())),
            {4: leaps.at(4), 16: leaps.at(16)},
            leaps.size,
            found not in kept,
        )
        for leaps, found in tried
    )
    return Belief(law, variants, Family.of(table), table)


def _spanned(best: float, drawn: np.ndarray) -> Prediction:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Prediction(float(best), float(min(low, best)), float(max(high, best)))
