"""Runs are sorted into the budgets that they have, and leaps are named by the factors between these."""

from __future__ import annotations

import numpy as np
import pytest
from engine_scaling.laws.budgets import budgets_of, clusters
from engine_scaling.laws.form import Form
from engine_scaling.laws.leaps import leaps_of
from engine_scaling.laws.ways import Table, Way
from support.made_ladders import as_points, ladder


def leaps(apart, budgets):
    """The reaches of leaps between exact budgets, as whole factors with their runs."""
    points = ladder(budgets=budgets, apart=apart)
    found = leaps_of(Way("all", Form()), Table.of(as_points(points).points, 15.0)).reaches()
    return {
        length: (round(one.least, 3), round(one.most, 3), one.runs) for length, one in found.items()
    }


@pytest.mark.parametrize("apart", [2, 3, 4, 8, 10, 100])
def test_budgets_are_told_by_gaps(apart):
    """Whatever the factor between them; runs of one budget may differ by a few per cent."""
    random = np.random.default_rng(0)
    number = random.permutation(np.repeat(np.arange(4), 5))
    flops = 1e15 * float(apart) ** number * random.uniform(0.95, 1.05, 20)
    assert budgets_of(flops).tolist() == number.tolist()
    assert [number[group].tolist() for group in clusters(flops)] == [[i] * 5 for i in range(4)]


def test_scattered_runs_have_bins():
    """Of a factor of four, the largest run being the middle of the last, also where most are alone."""
    for count in (245, 12):
        flops = np.geomspace(1e15, 1e18, count)
        bins = np.rint(np.log(flops / 1e18) / np.log(4))
        assert budgets_of(flops).tolist() == (bins - bins.min()).tolist()
    assert clusters(np.geomspace(1e15, 1e18, 245)) == []


@pytest.mark.parametrize(
    ("apart", "budgets", "expected"),
    [
        (4, 4, {"near": (4, 4, 8), "far": (16, 16, 4)}),
        (8, 4, {"far": (8, 8, 8)}),
        (10, 3, {"far": (10, 10, 4)}),
        (2, 5, {"near": (2, 4, 12), "far": (8, 8, 4)}),
        (100, 4, {}),
    ],
)
def test_leaps_have_the_real_factors(apart, budgets, expected):
    """From two budgets or more to four of five runs: the largest of each has fewer than five tokens
    a parameter. Leaps of a hundred times decide nothing."""
    assert leaps(apart, budgets) == expected
