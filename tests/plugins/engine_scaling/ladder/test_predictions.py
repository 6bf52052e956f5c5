"""Predictions of held-out runs, and what they are compared with."""

from __future__ import annotations

import pytest
from engine_scaling.ladder.predictions import HeldOut, frontier_of, line_through
from engine_scaling.points.point import Point


def test_the_frontier_is_the_best_run_of_each_budget():
    """Budgets that differ by less than a factor of two are one."""
    runs = [("a", 1.0, 4.0), ("b", 1.1, 3.5), ("c", 4.0, 3.0), ("d", 4.2, 3.2), ("e", 16.0, 2.8)]
    points = [Point(name, 1.0, 1.0, loss, flops) for name, flops, loss in runs]
    assert [point.name for point in frontier_of(points)] == ["b", "c", "e"]


def test_a_power_of_compute_is_a_line():
    """Losses 5·C^−0.05 are continued exactly."""
    points = [Point("p", 1.0, 1.0, 5 * c**-0.05, c) for c in (1e10, 4e10, 16e10)]
    assert line_through(points, 1e13) == pytest.approx(5 * 1e13**-0.05)


@pytest.mark.parametrize(
    ("text", "factor", "wider"), [("4", 4, 1), ("10x4", 10, 4), (" 2.5", 2.5, 1)]
)
def test_held_out_runs_are_written_as_factors(text, factor, wider):
    """The budget's, and the width's."""
    found = HeldOut.parse(text)
    assert (found.factor, found.wider) == (factor, wider)
    assert HeldOut.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "1", "0.5", "x4", "4x", "4x0", "4x4x4", "nan", "inf", "four"])
def test_what_is_no_factor_is_refused(text):
    """A held-out budget is larger than the fitted ones."""
    with pytest.raises(ValueError):  # noqa: PT011 - float and int say it in their own words
        HeldOut.parse(text)
