"""A curve's threshold and its intervals, where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_scaling.emergence.curve import Curve, fit
from engine_scaling.emergence.likelihood import Observed

MIDDLE, SLOPE, CHANCE, CEILING = 19.0, 2.0, 0.25, 0.9
PLACES = np.linspace(17, 21, 10)


def truth(x):
    return CHANCE + (CEILING - CHANCE) / (1 + np.exp(-SLOPE * (x - MIDDLE)))


def fitted(x, share, n, chance=CHANCE) -> Curve:
    return fit(Observed(x, share, np.full(len(x), float(n)), chance))


def noisy(x, n, seed):
    return np.random.default_rng(seed).binomial(n, truth(x)) / n


def inside(curve: Curve, x: float) -> bool:
    low = -math.inf if curve.low is None else curve.low
    high = math.inf if curve.high is None else curve.high
    return low <= x <= high


def test_noise_free_scores_give_their_curve_back():
    """To a thousandth, with an interval that shrinks with the number of items."""
    curve = fitted(PLACES, truth(PLACES), 10**6)
    assert curve.middle == pytest.approx(MIDDLE, abs=1e-3)
    assert curve.slope == pytest.approx(SLOPE, rel=1e-3)
    assert curve.chance + curve.rise == pytest.approx(CEILING, abs=1e-3)
    assert curve.low < MIDDLE < curve.high < curve.low + 0.01
    assert curve.rises
    wide = fitted(PLACES, truth(PLACES), 100)
    assert wide.high - wide.low == pytest.approx(100 * (curve.high - curve.low), rel=0.5)


def test_intervals_are_those_of_the_profile_likelihood():
    """Ends are where the best curve of that middle is 1.92 less likely, by another maximiser."""
    from scipy.optimize import minimize

    observed = Observed(PLACES, noisy(PLACES, 300, 5), np.full(10, 300.0), CHANCE)
    curve = fit(observed)

    def best(middle):
        def loss(free):
            rise = (1 - CHANCE) / (1 + math.exp(-free[1]))
            shape = 1 / (1 + np.exp(-math.exp(free[0]) * (PLACES - middle)))
            return -float(observed.log_likelihood(CHANCE + rise * shape))

        starts = [(s, r) for s in (0.0, 1.0) for r in (0.0, 2.0)]
        return -min(minimize(loss, one, method="Nelder-Mead").fun for one in starts)

    top = best(curve.middle)
    for end in (curve.low, curve.high):
        assert top - best(end) == pytest.approx(1.92, abs=0.02)
    low, high = curve.band(PLACES)
    assert np.all(low <= curve.score(PLACES))
    assert np.all(curve.score(PLACES) <= high)


def covered(draws, n=400):
    """Of so many draws: the shares whose intervals hold the true middle, and a true later score."""
    found = np.zeros(2)
    for seed in range(draws):
        curve = fitted(PLACES, noisy(PLACES, n, seed), n)
        low, high = curve.band(np.array([22.0]))
        found += inside(curve, MIDDLE), low[0] <= truth(22.0) <= high[0]
    return found / draws


def test_intervals_hold_the_truth_in_a_few_draws():
    """In most of eight: fewer than six of them would come once in 5,000 times."""
    assert np.all(covered(8) >= 6 / 8)


@pytest.mark.soak
def test_intervals_hold_the_truth_in_many_draws():
    """In 90 to 99 % of 200."""
    found = covered(200)
    print(f"threshold in {found[0]:.1%}, later score in {found[1]:.1%}")
    assert np.all(found >= 0.9)
    assert np.all(found <= 0.99)


def test_a_threshold_that_the_scores_do_not_bound_is_open():
    """Above, where they have hardly begun to rise; below, where they begin near the ceiling. One beyond
    them is bounded by the ceiling of 1, and widely."""
    begun = np.linspace(16, 17, 10)
    curve = fitted(begun, noisy(begun, 20_000, 1), 20_000)
    assert curve.high is None
    assert curve.low < MIDDLE
    late = np.linspace(20, 22, 10)
    assert fitted(late, noisy(late, 300, 1), 300).low is None
    early = np.linspace(16, 18.3, 10)
    curve = fitted(early, noisy(early, 300, 1), 300)
    assert curve.low < MIDDLE < curve.high
    assert curve.high - curve.low > 2


def test_scores_that_scatter_more_than_their_items_widen_the_intervals():
    """As those of other seeds do; where they do not, items alone count."""
    clean = truth(PLACES)
    jitter = 0.05 * np.random.default_rng(0).standard_normal(10)
    calm, wild = fitted(PLACES, clean, 2000), fitted(PLACES, np.clip(clean + jitter, 0, 1), 2000)
    assert (calm.scatter, calm.misfit) == (1.0, pytest.approx(1.0))
    assert wild.scatter > 5
    assert wild.misfit < 1e-6
    assert wild.high - wild.low > 2 * (calm.high - calm.low)
    assert inside(wild, MIDDLE)


def test_scores_without_chance_or_without_errors():
    """Of 0 and of 1 are fitted as any others."""
    share = np.where(PLACES < MIDDLE, 0.0, 1.0)
    curve = fitted(PLACES, share, 100, chance=0.0)
    assert PLACES[4] < curve.middle < PLACES[5]
    assert curve.rise == pytest.approx(1, abs=1e-3)
