"""Costs are weighed against the reward by multipliers, which follow the limits that are set."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engine_rlhf.config.online import Constraint
from engine_rlhf.config.rewards import Length
from engine_rlhf.online.coefficients import Multiplier
from support.online_objectives import EVERY, covers, episode


@EVERY
@covers("constraints")
@pytest.mark.covers("Constraint.start", "Constraint.lr", "Constraint.limit", "Constraint.reward")
def test_costs_are_weighed_against_the_reward(make, kind):
    """(A_r − Σ λ·A_c)/(1 + Σ λ); then ln λ moves by lr·λ·(mean cost − limit)."""
    constraints = [
        Constraint(reward=Length(name="b"), limit=0.5, start=2.0, lr=0.1),
        Constraint(reward=Length(name="c"), limit=-1.0, start=0.5, lr=0.3),
    ]
    extra = {} if kind == "ppo" else {"answers": 2}
    objective = make(kind, constraints=constraints, kl=0.0, **extra)
    episodes = [episode(3, reward=1.0, cost=(2.0, 0.0)), episode(3, reward=3.0, cost=(0.0, 1.0))]
    own = objective.estimates(episodes)
    combined = objective.combined(own)
    for i, found in enumerate(combined):
        expected = (own[0][i] - 2.0 * own[1][i] - 0.5 * own[2][i]) / 3.5
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    figures = objective.learn(episodes).figures
    assert (figures["lambda/b"], figures["lambda/c"]) == pytest.approx((2.0, 0.5))
    assert (figures["cost/b"], figures["violations/b"]) == (1.0, 0.5)
    assert (figures["cost/c"], figures["violations/c"]) == (0.5, 1.0)
    logs = objective.state()["multipliers"]
    assert logs[0] == pytest.approx(np.log(2.0) + 0.1 * 2.0 * (1.0 - 0.5))
    assert logs[1] == pytest.approx(np.log(0.5) + 0.3 * 0.5 * (0.5 + 1.0))
    again = make(kind, constraints=constraints, kl=0.0, **extra)
    again.load(objective.state())
    assert again.state() == objective.state()


def test_a_multiplier_neither_dies_nor_overflows():
    """It moves by its logarithm, between bounds that whatever rounds cannot pass."""
    for cost, end in ((-100.0, math.exp(-10)), (100.0, math.exp(10))):
        multiplier = Multiplier(Constraint(reward=Length(), limit=0.0, lr=5.0))
        for _ in range(100):
            multiplier.move(cost)
        assert multiplier.value == pytest.approx(end)
