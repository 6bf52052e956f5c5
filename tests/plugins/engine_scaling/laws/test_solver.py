"""The fit finds the constants of exact laws, and the optimum that a general optimizer finds."""

from __future__ import annotations

import numpy as np
import pytest
from engine_scaling.laws.form import Form, law_of, predicted
from engine_scaling.laws.solver import DELTA, Data, fit
from scipy.optimize import minimize
from support.made_ladders import HOFFMANN, LAW, ladder

from engine import ScalingLaw


def data(points, weight=None):
    x, y, z = (
        np.log([getattr(p, n) for p in points])[None] for n in ("parameters", "tokens", "loss")
    )
    return Data(x, y, z, np.ones_like(x) if weight is None else weight)


def huber(constants, points):
    """The loss of Hoffmann et al. 2022, equation 3, written out."""
    off = np.abs(predicted(np.asarray(constants), *(a[0] for a in data(points).arrays[:2]))
                 - data(points).z[0])  # fmt: skip
    return np.where(off <= DELTA, off**2 / 2, DELTA * (off - DELTA / 2)).sum()


@pytest.mark.parametrize(
    ("law", "first", "form"),
    [
        (HOFFMANN, 1e18, Form()),
        (ScalingLaw(1.8172, 482.01, 0.34781, 2085.43, 0.36585), 1e18, Form()),
        (LAW, 1e13, Form(tied=True)),
        (ScalingLaw(0.3, 20, 0.2, 60, 0.25), 1e13, Form(offset="limited")),
        (ScalingLaw(0, 9, 0.076, 9, 0.095), 1e13, Form(offset="none")),
    ],
    ids=["hoffmann", "refit", "tied", "limited", "no offset"],
)
def test_exact_losses_give_their_constants_back(law, first, form):
    """To one part in a thousand, in every form."""
    (found,), _ = fit(data(ladder(law, budgets=5, first=first)), form)
    fitted = law_of(found, "all")
    for name in ("E", "A", "alpha", "B", "beta"):
        assert getattr(fitted, name) == pytest.approx(getattr(law, name), rel=1e-3, abs=1e-12)


def test_the_optimum_is_the_lowest_that_a_general_optimizer_finds():
    """With noise, from a grid of starts, to 1e-6 in the loss and in what it predicts."""
    points = ladder(HOFFMANN, budgets=5, first=1e18, noise=0.01, seed=4)
    (found,), (cost,) = fit(data(points), Form())
    assert huber(found, points) == pytest.approx(cost, rel=1e-9)
    starts = [
        (a, alpha, b, alpha, 0.5) for a in (3, 6, 9) for b in (3, 6, 9) for alpha in (0.2, 0.5)
    ]
    others = [
        minimize(huber, start, args=(points,), method="Nelder-Mead",
                 options={"maxiter": 4000, "xatol": 1e-10, "fatol": 1e-14})
        for start in starts[::4]
    ]  # fmt: skip
    assert cost <= min(other.fun for other in others) * (1 + 1e-6)


def test_sets_of_points_are_fitted_as_if_each_were_alone():
    """Many sets at once give the same constants as one after the other, also with points left out."""
    points = ladder(LAW, budgets=4, noise=0.01)
    weights = np.ones((3, len(points)))
    weights[1, :5] = 0
    weights[2, ::4] = 0
    together, _ = fit(data(points, weights), Form())
    for weight, found in zip(weights, together, strict=True):
        alone, _ = fit(data([p for p, w in zip(points, weight, strict=True) if w]), Form())
        assert found == pytest.approx(alone[0], rel=1e-4)


def test_a_limit_of_the_offset():
    """Holds E at half of the lowest loss where the points want more."""
    points = ladder(HOFFMANN, budgets=4, first=1e20)
    (found,), _ = fit(data(points), Form(offset="limited"))
    assert pytest.approx(min(p.loss for p in points) / 2) == law_of(found, "all").E
