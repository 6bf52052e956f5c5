"""What scores say: whether they have left chance, where, and what larger trainings will score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from engine_scaling.emergence.curve import Curve, fit
from engine_scaling.emergence.likelihood import Observed
from engine_scaling.emergence.log_probability import Trend, trend
from engine_scaling.emergence.points import LEAST_PLACES, LEAST_POINTS, Point, Scores

TIMES = (4, 10)
"""Multiples of the largest training for which scores are predicted."""
_LEAST_ABOVE = 3
"""Scores above chance that a threshold needs: as many as the curve has constants."""
_NORMAL = 1.96


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval of 95 %; an end is None where nothing bounds it."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model after so many ``flops`` will score, measured on as many items: by the curve over
    FLOPs, and by the two steps FLOPs → log-probability → score; None where these are not to be told."""

    times: int
    flops: float
    score: Interval | None
    logprob: Interval | None
    two_steps: Interval | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that is found.

    ``above``: number of scores that their items show to be above chance; ``curve``, ``by_logprob``: of
    scores over log10 FLOPs and over the log-probability; ``why``: why they have no threshold, empty if
    they have one; ``threshold``: FLOPs at which the curve is half way between chance and its ceiling.
    """

    scores: Scores
    above: int
    curve: Curve
    why: str
    threshold: Interval | None
    trend: Trend | None
    by_logprob: Curve | None
    predictions: tuple[Prediction, ...]

    @property
    def told(self) -> bool:
        """Whether the scores have a threshold."""
        return not self.why


def analyse(scores: Scores) -> Analysis:
    """Fits the curves and says what they tell."""
    points = scores.points
    above = sum(share_interval(point)[0] > scores.chance for point in points)
    curve = fit(_observed(points, [math.log10(p.flops) for p in points], scores.chance))
    below = sum(share_interval(point)[1] < scores.chance for point in points)
    why = _untold(above, curve, all_below=below == len(points))
    known = [point for point in points if point.logprob is not None]
    line, second = None, None
    if len(known) >= LEAST_POINTS and len({p.flops for p in known}) >= LEAST_PLACES:
        logprobs = [point.logprob or 0.0 for point in known]
        line = trend([point.flops for point in known], logprobs)
        if len(set(logprobs)) >= LEAST_PLACES:
            second = fit(_observed(known, logprobs, scores.chance))
            if above < _LEAST_ABOVE or not second.rises:
                second = None
    items = max(point.n for point in points)
    largest = points[-1].flops
    return Analysis(
        scores=scores,
        above=above,
        curve=curve,
        why=why,
        threshold=None if why else _threshold(curve),
        trend=line,
        by_logprob=second,
        predictions=tuple(
            Prediction(
                times,
                times * largest,
                None if why else _predicted(curve, math.log10(times * largest), items),
                Interval(*line.logprob(times * largest)) if line else None,
                _two_steps(line, second, times * largest, items) if line and second else None,
            )
            for times in TIMES
        ),
    )


def share_interval(point: Point) -> tuple[float, float]:
    """The 95 % interval of a share of n items (Clopper and Pearson 1934)."""
    right, n = point.score * point.n, point.n
    low = float(betaincinv(right, n - right + 1, 0.025)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, n - right, 0.975)) if right < n else 1.0
    return low, high


def _observed(points: Sequence[Point], x: Sequence[float], chance: float) -> Observed:
    return Observed(
        np.array(x),
        np.array([p.score for p in points]),
        np.array([float(p.n) for p in points]),
        chance,
    )


def _untold(above: int, curve: Curve, *, all_below: bool) -> str:
    """Why scores have no threshold; empty if they have one."""
    if all_below:
        return f"all scores are below chance: is {curve.chance:.4g} the score by guessing?"
    if above < _LEAST_ABOVE:
        scores = "score is" if above == 1 else "scores are"
        return f"{above} {scores} above chance by the binomial interval; it takes {_LEAST_ABOVE}"
    if not curve.rises:
        return "the scores do not rise with training FLOPs"
    if curve.low is None and curve.high is None:
        return "the scores bound it on neither side"
    return ""


def _threshold(curve: Curve) -> Interval:
    return Interval(
        10**curve.middle,
        None if curve.low is None else 10**curve.low,
        None if curve.high is None else 10**curve.high,
    )


def _predicted(curve: Curve, x: float, items: int) -> Interval:
    """A further model's score; its interval spans the curves and the items."""
    low, high = curve.band(np.array([x]))
    return _spread(curve, float(curve.score(np.array([x]))[0]), [(low[0], high[0])], items)


def _two_steps(line: Trend, curve: Curve, flops: float, items: int) -> Interval:
    """The score at the log-probability that the trend predicts; its interval also spans the trend's."""
    middle, *ends = line.logprob(flops)
    low, high = curve.band(np.array([middle]))
    through = curve.score(np.array(ends))
    spans = [(low[0], high[0]), (through[0], through[1])]
    return _spread(curve, float(curve.score(np.array([middle]))[0]), spans, items)


def _spread(
    curve: Curve, score: float, spans: Sequence[tuple[float, float]], items: int
) -> Interval:
    """Adds the independent parts of an interval, the items' noise included, by their squares."""
    noise = _NORMAL * math.sqrt(curve.scatter * score * (1 - score) / items)
    below = math.hypot(noise, *(score - min(low, score) for low, _ in spans))
    over = math.hypot(noise, *(max(high, score) - score for _, high in spans))
    return Interval(score, max(0.0, score - below), min(1.0, score + over))
