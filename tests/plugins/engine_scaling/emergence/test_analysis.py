"""What is told of scores, what is predicted, and when nothing is."""

from __future__ import annotations

import numpy as np
import pytest
from engine_scaling.emergence.analysis import analyse, share_interval
from engine_scaling.emergence.log_probability import trend
from engine_scaling.emergence.points import Point, Scores

CHANCE, N = 0.25, 2000
PLACES = np.linspace(17, 20.5, 12)


def true_logprob(x):
    """A power law."""
    return -1.2 * 10.0 ** (-0.1 * (np.asarray(x) - 19))


def truth(x):
    """Logistic in the log-probability."""
    return CHANCE + 0.65 / (1 + np.exp(-8 * (true_logprob(x) + 1.2)))


def points(places, seed=None, *, n=N, scatter=0.0, logprobs=True):
    draw = np.random.default_rng(seed)
    found = []
    for x in places:
        logprob = float(true_logprob(x) * np.exp(scatter * draw.standard_normal()))
        p = CHANCE + 0.65 / (1 + np.exp(-8 * (logprob + 1.2)))
        share = float(p if seed is None else draw.binomial(n, p) / n)
        found.append(Point(f"at {x:.1f}", 10.0**x, share, n, logprob if logprobs else None))
    return tuple(found)


def scores(*arguments, **options):
    return Scores("acc", points(*arguments, **options), CHANCE)


def holds(interval, value):
    return interval.low <= value <= interval.high


def test_two_steps_predict_what_the_law_and_the_curve_say():
    """Noise-free points give back the exponent and the scores of larger trainings."""
    found = analyse(scores(PLACES, n=10**6))
    assert found.told
    assert found.trend.exponent == pytest.approx(0.1, abs=1e-6)
    for one in found.predictions:
        x = np.log10(one.flops)
        assert one.flops == pytest.approx(one.times * 10**20.5)
        assert one.logprob.value == pytest.approx(true_logprob(x), rel=1e-6)
        assert one.two_steps.value == pytest.approx(truth(x), abs=1e-3)
        assert holds(one.two_steps, truth(x))


def test_the_log_probability_s_interval_is_that_of_a_regression():
    """The same as scipy's, and wider farther away."""
    from scipy.stats import linregress, t

    draw = np.random.default_rng(4)
    x = np.log(10) * PLACES
    logprobs = true_logprob(PLACES) * np.exp(0.05 * draw.standard_normal(12))
    found = trend(10**PLACES, logprobs)
    right = linregress(x, np.log(-logprobs))
    assert -found.exponent == pytest.approx(right.slope)
    half = right.stderr * t.ppf(0.975, 10)
    assert (found.low, found.high) == pytest.approx((-right.slope - half, -right.slope + half))
    near, far = (found.logprob(10.0**at) for at in (21, 23))
    assert near[1] < near[0] < near[2]
    assert np.log(far[1] / far[2]) > np.log(near[1] / near[2])


def coverage(draws):
    """Of so many draws, the shares whose intervals hold a further model's score and log-probability."""
    held = []
    for seed in range(draws):
        found = analyse(scores(PLACES, seed, scatter=0.03, n=500))
        (later,) = points([21.5], 10_000 + seed, scatter=0.03, n=500)
        one = found.predictions[-1]
        held.append((holds(one.two_steps, later.score), holds(one.logprob, later.logprob)))
    return np.mean(held, axis=0)


def test_predictions_hold_what_comes_in_a_few_draws():
    """In most of five."""
    assert np.all(coverage(5) >= 3 / 5)


@pytest.mark.soak
def test_predictions_hold_what_comes_in_many_draws():
    """In 90 % of 200 or more."""
    found = coverage(200)
    print(f"score by two steps in {found[0]:.1%}, log-probability in {found[1]:.1%}")
    assert np.all(found >= 0.9)


def test_too_few_scores_above_chance_tell_no_threshold():
    """Nor a score; how many are above is said, and the log-probability is predicted all the same."""
    early = analyse(scores(np.linspace(14, 17, 8), seed=1, n=500))
    assert early.above < 3
    assert not early.told
    assert f"{early.above} " in early.why
    assert early.threshold is None
    assert all(one.score is None and one.two_steps is None for one in early.predictions)
    assert holds(early.predictions[0].logprob, true_logprob(np.log10(4) + 17))


@pytest.mark.parametrize("share", [0.9, 0.6])
def test_scores_that_do_not_rise_tell_no_threshold(share):
    """All on a plateau above chance; or falling with training."""
    down = [Point(str(x), 10.0**x, share - 0.05 * (x - 17), 500) for x in range(17, 23)]
    flat = [Point(str(x), 10.0**x, share, 500) for x in range(17, 23)]
    for found in (flat, down):
        told = analyse(Scores("acc", tuple(found), CHANCE))
        assert told.above == 6
        assert told.why == "the scores do not rise with training FLOPs"


def test_a_score_s_interval_is_exact():
    """Clopper and Pearson's: 8 of 10, all and none."""
    assert share_interval(Point("", 1, 0.8, 10)) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert share_interval(Point("", 1, 1, 10)) == pytest.approx((0.6915, 1), abs=1e-4)
    assert share_interval(Point("", 1, 0, 10)) == pytest.approx((0, 0.3085), abs=1e-4)


def test_without_log_probabilities_there_is_one_prediction():
    """By the curve over FLOPs alone."""
    found = analyse(scores(PLACES, 3, logprobs=False))
    assert (found.trend, found.by_logprob) == (None, None)
    assert all(one.two_steps is None and one.score is not None for one in found.predictions)
