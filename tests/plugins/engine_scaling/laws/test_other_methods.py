"""Parabolas and the frontier find the best size, and the error of the method is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_scaling.laws.believed import believe
from engine_scaling.laws.bootstrap import draws
from engine_scaling.laws.frontiers import frontier, on_frontier, power_laws
from engine_scaling.laws.isoflop import isoflop
from support.made_ladders import HOFFMANN, LAW, as_points, ladder


def studied(points):
    belief = believe(as_points(points), bootstraps=40)
    return belief, draws(belief.chosen, belief.table, 40, np.random.default_rng(0))[1]


@pytest.mark.parametrize(("spread", "bias"), [(4, 0.015), (16, 0.06)])
def test_parabolas_say_by_how_much_they_are_off(spread, bias):
    """Over seven sizes they give the exponent of the law, and an optimum that is too large: at 1e24
    FLOPs by 1.5 % over a factor of four each way, by 6 % over sixteen."""
    points = ladder(HOFFMANN, budgets=3, sizes=7, spread=spread, first=1e24 / 16)
    belief, drawn = studied(points)
    found = isoflop(belief, drawn)
    assert found.exponent.value == pytest.approx(0.4516, abs=1e-3)
    last = found.parabolas[-1]
    assert (last.flops, last.sizes) == (pytest.approx(1e24), 7)
    assert last.bias == pytest.approx(bias, abs=0.002)
    true = HOFFMANN.optimum(1e24)[0]
    assert last.optimum.value / true - 1 == pytest.approx(last.bias, abs=1e-3)


def test_parabolas_without_a_lowest_point():
    """Give no optimum: where the sizes lie on one side, and where a parabola opens downward."""
    small = {f"budget0-size{i}" for i in range(3)}
    points = [p for p in ladder(sizes=7) if "budget0" not in p.name or p.name in small]
    odd = next(i for i, p in enumerate(points) if p.name == "budget3-size3")
    points[odd] = replace(points[odd], loss=points[odd].loss * 1.2)
    belief, _ = studied(points)
    found = isoflop(belief, np.repeat(belief.table.z[None], 40, 0))
    assert [p.optimum is None for p in found.parabolas] == [True, False, False, True]
    assert [p.without for p in found.parabolas] == [1, 0, 0, 1]
    assert np.isnan([p.bias for p in found.parabolas]).tolist() == [True, False, False, False]


def test_a_best_size_that_resampled_losses_do_not_tell():
    """Is not told, and neither is the exponent: noise of 2 % hides the lowest point
    over a factor of three each way."""
    found = isoflop(*studied(ladder(noise=0.02, seed=2, spread=3)))
    for parabola in found.parabolas:
        assert parabola.without > 0.025
        assert parabola.optimum is None
    assert found.exponent is None
    clear = isoflop(*studied(ladder(noise=0.003, seed=2)))
    for parabola in clear.parabolas:
        assert parabola.without <= 0.025
        assert parabola.optimum.low > 0


def test_the_best_runs_grow_with_compute():
    """Approach 1 gives the exponent of a symmetric ladder, and names the best run of each budget."""
    belief, drawn = studied(ladder(budgets=4, sizes=5))
    found = frontier(belief, drawn)
    assert found.names == tuple(f"budget{i}-size2" for i in range(4))
    assert found.exponent.value == pytest.approx(0.5, abs=1e-6)


def test_a_power_law_of_compute():
    """L(C) of the best runs has the law's exponent αβ/(α+β), and predicts its loss."""
    belief, drawn = studied(ladder(budgets=5))
    law = next(one for one in power_laws(belief, drawn, (10,)) if one.variable == "C")
    assert law.exponent.value == pytest.approx(0.15, abs=1e-3)
    assert law.offset.value == pytest.approx(LAW.E, rel=1e-3)
    true = LAW.loss(*LAW.optimum(10 * belief.law.flops[1]))
    assert law.at[10].value == pytest.approx(true, rel=1e-4)


def test_too_few_runs_on_the_frontier_tell_no_power_law():
    """Three budgets are as many as constants."""
    belief, drawn = studied(ladder(budgets=3))
    (law,) = (one for one in power_laws(belief, drawn, (10,)) if one.variable == "C")
    assert (law.runs, law.exponent, law.at) == (3, None, {})
    assert law.largest == belief.law.flops[1]


def test_the_frontier():
    """Has the runs that none with as much or less beats."""
    x, z = np.array([1, 2, 2, 3, 4.0]), np.array([5, 4, 3, 3.5, 2.0])
    assert on_frontier(x, z).tolist() == [0, 2, 4]
