"""The law that is believed: the one that predicts larger budgets best from smaller ones."""

from __future__ import annotations

from dataclasses import dataclass

from engine import FittedLaw
from engine_scaling.points import Points


@dataclass(frozen=True, slots=True)
class Prediction:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to fit the law, and how well it fits and predicts, as root mean squares of relative errors;
    ``leaps``: errors of prediction by the factor between the budgets, NaN where no run tells;
    ``worse``: whether it predicts clearly worse than the one that is believed."""

    name: str
    points: int
    in_sample: float
    leaps: dict[int, float]
    worse: bool


@dataclass(frozen=True, slots=True)
class Belief:
    """The law that is believed, with the table of all variants, best first."""

    law: FittedLaw
    variants: tuple[Variant, ...]

    def optimum(self, flops: float) -> tuple[Prediction, Prediction, Prediction]:
        """All parameters, tokens and loss of the best model for ``flops``."""
        raise NotImplementedError


def believe(points: Points, *, seed: int = 0, bootstraps: int = 200) -> Belief:
    """Fits every variant and chooses. Raises SpecError where the points do not tell a law."""
    raise NotImplementedError
