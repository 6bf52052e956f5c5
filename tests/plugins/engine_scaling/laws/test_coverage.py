"""Intervals of 95 % hold the truth as often as they say."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from engine_scaling.laws.believed import believe
from support.made_ladders import HOFFMANN, LAW, as_points, ladder

NOISE = 0.005
FIRST = {LAW: 1e13, HOFFMANN: 1e19}
"""The smallest budgets, at which both laws have losses of runs."""


def held(law, draws, first_seed=0):
    """How many draws of a ladder have the loss of a new run at four and ten times its largest budget,
    and the best size there, inside the intervals."""
    hits = Counter()
    for seed in range(first_seed, first_seed + draws):
        random = np.random.default_rng((seed, 1))
        points = ladder(law, budgets=4, noise=NOISE, seed=seed, first=FIRST[law])
        belief = believe(as_points(points), seed=seed, bootstraps=300)
        for factor in (4, 10):
            flops = belief.law.flops[1] * factor
            size, tokens, loss = belief.optimum(flops)
            new = law.loss(size.value, tokens.value) * math.exp(NOISE * random.standard_normal())
            hits["loss", factor] += loss.low <= new <= loss.high
            hits["size", factor] += size.low <= law.optimum(flops)[0] <= size.high
    return hits


def test_a_few_draws():
    """Of six ladders at least four hold each truth: fewer has a chance below 1 in 400 at 95 %."""
    assert min(held(LAW, 6).values()) >= 4


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("law", [LAW, HOFFMANN], ids=["small", "large"])
def test_many_draws(law):
    """Of 200 ladders with noise of 0.5 %, 90 to 99 % hold each truth."""
    hits = held(law, 200)
    print(f"\n{ {' '.join(map(str, key)): count / 200 for key, count in hits.items()} }")
    assert all(180 <= count <= 198 for count in hits.values()), hits
