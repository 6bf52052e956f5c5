"""The KL penalty adapts within bounds, and an estimator that cannot serve in a reward is refused."""

from __future__ import annotations

import pytest
from engine_rlhf.config.online import PPO, AdaptiveKL
from engine_rlhf.config.rewards import Length
from engine_rlhf.online.coefficients import Penalty
from pydantic import ValidationError


@pytest.mark.covers("AdaptiveKL.horizon")
def test_the_penalty_moves_by_a_fifth_at_most():
    """Also where a round has more episodes than the horizon: it never turns into a reward."""
    penalty = Penalty(0.1, AdaptiveKL(target=6.0, horizon=10))
    penalty.move(0.0, 640)
    assert penalty.value == pytest.approx(0.08)
    penalty.move(100.0, 5)
    assert penalty.value == pytest.approx(0.08 * 1.1)


@pytest.mark.covers("objective/ppo.kl_estimator")
def test_k3_in_the_reward_is_refused_with_the_reason():
    """It estimates the divergence, but does not lead to it."""
    with pytest.raises(ValidationError, match="converges to another policy"):
        PPO(rewards=[Length(name="r")], kl_estimator="k3")
    with pytest.raises(ValidationError, match="start it above 0"):
        PPO(rewards=[Length(name="r")], kl=0, adaptive_kl={})
