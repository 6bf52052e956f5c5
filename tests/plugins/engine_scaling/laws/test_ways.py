"""Which runs a law may be fitted without."""

from __future__ import annotations

import pytest
from engine_scaling.laws.checks import check_sides
from engine_scaling.laws.family import Family
from engine_scaling.laws.ways import Table, ways
from engine_scaling.points.point import Point

from engine import ScalingLaw, SpecError


def runs(ratio: float) -> list[Point]:
    """Three budgets four apart, of sizes on both sides of the best, which sees ``ratio`` tokens for
    each parameter. Beside it the loss rises more steeply than any law's."""
    found = []
    for budget in (1e12, 4e12, 16e12):
        best = (budget / 6 / ratio) ** 0.5
        for off in (0.4, 0.63, 1.0, 1.6, 2.5):
            loss = 4 * (budget / 1e12) ** -0.08 * (1 + 0.05 * (off - 1 / off) ** 2)
            size = best * off
            name = f"{budget:.0e}-{off}"
            found.append(Point(name, size, budget / 6 / size, loss, budget, body=size, steps=1000))
    return found


@pytest.mark.parametrize(("ratio", "offered"), [(8, False), (100, True)])
def test_a_rule_that_leaves_one_side_of_the_best_is_none(ratio, offered):
    """Without the runs of fewer than 5 tokens a parameter nothing larger than the best size is left
    where the best has 8; of 100, nothing is left out."""
    table = Table.of(tuple(runs(ratio)), 15.0)
    assert ("D ≥ 5N" in table.kept) == offered
    assert {way.rule for way in ways(table)} == {""}


def test_best_sizes_that_were_trained_are_not_refused():
    """Whatever best size a law gives: where the runs have smaller and larger ones, they tell it."""
    law = ScalingLaw(0.0, 500.0, 0.3, 5.0, 0.3)
    table = Table.of(tuple(runs(8)), 15.0)
    check_sides(table, Family.of(table), law)
    small = Table.of(tuple(run for run in runs(8) if not run.name.endswith(("1.6", "2.5"))), 15.0)
    with pytest.raises(SpecError, match="all models are too small for their budgets"):
        check_sides(small, Family.of(small), law)
