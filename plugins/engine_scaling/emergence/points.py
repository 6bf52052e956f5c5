"""The scores of one metric, with the training FLOPs of the models that they are of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from engine import SpecError
from engine_scaling.points.point import some

LEAST_POINTS = 4
"""A curve of three constants, and a point that could contradict it."""
LEAST_PLACES = 3
MOST_POINTS = 2000
"""The time of a fit grows with them: 2,000 take 13 s of a core."""
REPEATED = "given before, and counted once"
"""Why a score is left out that was given twice."""
MOST_FLOPS = 1e40
"""With its inverse the range of FLOPs, or of another unit of them, so that no figure overflows."""


@dataclass(frozen=True, slots=True)
class Point:
    """A model's score.

    ``flops``: of its training until then, other stages that it started from included; ``score``: share
    of ``n`` items; ``logprob``: mean log-probability of the right answer in nats per token, None if
    unknown; ``chance``: the score by guessing, None if unknown. Raises ValueError for figures that
    cannot be.
    """

    name: str
    flops: float
    score: float
    n: int
    logprob: float | None = None
    chance: float | None = None

    def __post_init__(self) -> None:
        if not 1 / MOST_FLOPS <= self.flops <= MOST_FLOPS:
            raise ValueError(
                f"flops: {self.flops:g} is not between {1 / MOST_FLOPS:g} and {MOST_FLOPS:g}"
            )
        if not 0 <= self.score <= 1:
            raise ValueError(
                f"score: {self.score:g} is no share of items; divide percentages by 100"
            )
        if self.n < 1:
            raise ValueError(f"n: {self.n} is no number of items")
        if self.logprob is not None and not -math.inf < self.logprob < 0:
            raise ValueError(f"logprob: {self.logprob:g} is no log-probability, which is below 0")
        if self.chance is not None:
            check_chance(self.chance)


@dataclass(frozen=True, slots=True)
class Scores:
    """The points of a ``metric`` in the order of their FLOPs, the score by ``chance``, and why others
    were left out."""

    metric: str
    points: tuple[Point, ...]
    chance: float
    left_out: tuple[str, ...] = ()


def check_chance(chance: float) -> None:
    """Raises ValueError for what cannot be the score by guessing."""
    if not 0 <= chance < 1:
        raise ValueError(f"chance: {chance:g} is not between 0 and 1")


def together(
    metric: str, points: Iterable[Point], chance: float | None, left_out: Iterable[str] = ()
) -> Scores:
    """The points as scores to fit a curve to; ``chance`` overrides the points'.

    Raises SpecError for too few points or too many, and for a chance that is unknown or differs.
    """
    ordered = tuple(sorted(points, key=lambda point: point.flops))
    places = len({point.flops for point in ordered})
    without = tuple(left_out)
    if len(ordered) < LEAST_POINTS or places < LEAST_PLACES:
        beside = f"; left out: {some(without, '; ')}" if without else ""
        raise SpecError(
            f"{metric}: {len(ordered)} scores at {places} amounts of FLOPs{beside}",
            hint=f"a curve takes {LEAST_POINTS} scores at {LEAST_PLACES} amounts",
        )
    if len(ordered) > MOST_POINTS:
        raise SpecError(
            f"{metric}: {len(ordered):,} scores",
            hint=f"give {MOST_POINTS:,} or fewer, such as final ones",
        )
    if chance is None:
        found = {point.chance for point in ordered}
        if len(found) > 1 and None not in found:
            told = ", ".join(f"{one:g}" for one in sorted(one or 0.0 for one in found))
            raise SpecError(
                f"{metric}: the scores by chance differ: {told}",
                hint="give only scores of the same items",
            )
        chance = found.pop() if len(found) == 1 else None
    if chance is None:
        raise SpecError(
            f"{metric}: the score by chance is not known",
            hint="give it: --chance 0.25 of four choices, --chance 0 of answers that are written",
        )
    return Scores(metric, ordered, chance, without)
