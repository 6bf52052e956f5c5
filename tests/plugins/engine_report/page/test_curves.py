"""Curves are thinned without losing an extreme."""

from __future__ import annotations

import math

import numpy as np
from engine_report.page.curves import FEWEST, MOST, NUMBERS, buckets_for, rounded, thinned
from hypothesis import given, strategies as st

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=200)


def columns(values):
    steps = np.arange(1, len(values) + 1, dtype=np.float64)
    return {"step": steps, "time": steps, "loss": np.array(values, dtype=np.float64)}


@given(VALUES, st.integers(1, 30))
def test_the_extremes_are_kept(values, buckets):
    """Whatever the values are: to the digits that are written, as is the mean of equal buckets."""
    found = thinned(columns(values), buckets)
    finite = [value for value in values if math.isfinite(value)]
    assert len(found.step) == min(buckets, len(values))
    assert found.step == sorted(set(found.step))
    if not finite:
        assert found.figures == {}
        return
    curve = found.figures["loss"]
    low = [v for v in curve.low or curve.value if v is not None]
    high = [v for v in curve.high or curve.value if v is not None]
    assert math.isclose(min(low), min(finite), rel_tol=1e-4)
    assert math.isclose(max(high), max(finite), rel_tol=1e-4)
    if len(values) % buckets == 0 and len(finite) == len(values) > buckets:
        mean = sum(finite) / len(finite)
        known = [v for v in curve.value if v is not None]
        assert math.isclose(sum(known) / len(known), mean, rel_tol=1e-3, abs_tol=100)


def test_a_short_curve_is_whole():
    """Each step has its value; a step whose value is not finite has none."""
    found = thinned(columns([1.25, math.nan, math.inf, 4.0]), 10)
    assert found.step == [1, 2, 3, 4]
    assert found.figures["loss"].value == [1.25, None, None, 4]
    assert found.figures["loss"].low == []
    assert set(found.figures) == {"loss"}  # neither step nor time is a figure


def test_numbers_are_rounded_for_the_page_alone():
    """A machine that reads the curves has all digits."""
    found = thinned(columns([1.23456789, math.nan, 30.0]), 10)
    assert found.figures["loss"].value == [1.23456789, None, 30.0]
    short = rounded(found)
    assert short.figures["loss"].value == [1.23457, None, 30]
    assert isinstance(short.figures["loss"].value[2], int)
    assert short.step == found.step


def test_values_near_the_largest_float_have_a_mean():
    """It does not overflow."""
    curve = thinned(columns([1.5e308] * 8), 2).figures["loss"]
    assert curve.value == [1.5e308, 1.5e308]


def test_many_curves_share_the_room_of_a_page():
    """A curve has fewer buckets the more there are, within bounds."""
    assert buckets_for(1) == MOST
    assert buckets_for(10**6) == FEWEST
    between = buckets_for(1000)
    assert FEWEST < between < MOST
    assert 3 * 1000 * between <= NUMBERS


def test_no_step_is_no_curve():
    """A stage that has none yet is shown without."""
    found = thinned({}, 10)
    assert (found.step, found.figures) == ([], {})
