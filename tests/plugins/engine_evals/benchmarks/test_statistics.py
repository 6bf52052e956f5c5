"""What paired differences come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_evals.benchmarks.statistics import paired_interval
from hypothesis import given, strategies as st
from scipy import stats

differences = st.lists(
    st.sampled_from([-1.0, 0.0, 1.0]) | st.floats(-1, 1), min_size=1, max_size=60
)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_interval_is_agresti_and_min_s(lost, gained, alike):
    """Their formula of the counts of pairs, each of the four with a half more."""
    if lost + gained + alike == 0:
        return
    b, c, n = lost + 0.5, gained + 0.5, lost + gained + alike + 2
    half = stats.norm.ppf(0.975) * math.sqrt(b + c - (b - c) ** 2 / n) / n
    found = paired_interval([1.0] * lost + [-1.0] * gained + [0.0] * alike)
    expected = max(-1.0, (b - c) / n - half), min(1.0, (b - c) / n + half)
    assert found == pytest.approx(expected, abs=1e-12)


@given(differences)
def test_the_interval_holds_the_drop(drops):
    """However few or alike the rows are; it is never empty."""
    low, high = paired_interval(drops)
    assert -1 <= low <= np.mean(drops) + 1e-12
    assert high >= np.mean(drops) - 1e-12
    assert low < high <= 1


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of thousands of draws of 20 pairs, also where ± 1.96 standard errors does not; with many pairs
    it is scipy's of paired means."""
    chance = np.random.default_rng(0)
    for lost, gained in ((0.05, 0.01), (0.2, 0.1), (0.4, 0.4), (0.02, 0.0)):
        drawn = chance.choice([1.0, -1.0, 0.0], (4000, 20), p=[lost, gained, 1 - lost - gained])
        held = [low <= lost - gained <= high for low, high in map(paired_interval, drawn)]
        assert np.mean(held) > 0.93
    errors = drawn.std(1, ddof=1) / math.sqrt(20)  # of the rare ones: most draws have none
    assert np.mean(abs(drawn.mean(1) - 0.02) <= 1.96 * errors) < 0.4
    plain, changed = (chance.random((2, 5000)) < [[0.7], [0.6]]).astype(float)
    expected = stats.ttest_rel(plain, changed).confidence_interval(0.95)
    found = paired_interval(plain - changed)
    assert found == pytest.approx((expected.low, expected.high), abs=2e-4)
