"""Ladders that are fitted once for each file."""

from __future__ import annotations

import pytest
from engine_scaling.laws.believed import believe
from support.made_ladders import as_points, ladder


@pytest.fixture(scope="module")
def exact():
    """What is believed of a ladder without noise."""
    return believe(as_points(ladder(budgets=5)), bootstraps=100)


@pytest.fixture(scope="module")
def noisy():
    """What is believed of a ladder with noise."""
    return believe(as_points(ladder(budgets=4, noise=0.005, seed=1)), bootstraps=300)
