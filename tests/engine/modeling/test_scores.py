"""Rewards are added up in the same way for every objective and evaluator."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engine import RewardConfig, RunError
from engine.modeling import RewardSum


class Lengths:
    def __init__(self, config):
        self._factors = (1, 10) if config.name == "both" else (1,)

    def score(self, prompts, completions, rows):
        lengths = torch.tensor([float(len(text)) for text in completions])
        return {str(factor): factor * lengths for factor in self._factors}


def test_rewards_add_up_by_their_weights():
    """A reward's own values have no weight; none of the rewards hides another of its name."""
    context = SimpleNamespace(component=lambda kind, config: Lengths(config))
    configs = [
        RewardConfig(name="one", weight=-2),
        RewardConfig(name="both"),
        RewardConfig(name="one"),
    ]
    rewards = RewardSum(configs, context)
    scores = rewards.score(["p", "p"], ["ab", "abc"], [{}, {}])
    assert scores == [{"one": 2, "both": 22, "one-2": 2}, {"one": 3, "both": 33, "one-2": 3}]
    assert rewards.weighted(scores[0]) == {"one": -4, "both": 22, "one-2": 2}
    assert [rewards.total(one) for one in scores] == [20, 30]
    assert RewardSum([], context).score(["p"], ["a"], [{}]) == [{}]


@pytest.mark.parametrize("found", [{}, {"a": torch.ones(1)}, {"a": torch.tensor([1, torch.nan])}])
def test_a_reward_gives_a_finite_number_for_each_answer(found):
    """The message names the reward, by its type where it has no name."""
    reward = SimpleNamespace(score=lambda *_: found)
    rewards = RewardSum([RewardConfig(name="mine")], SimpleNamespace(component=lambda *_: reward))
    with pytest.raises(
        RunError, match="reward 'mine' did not give one finite number for each of 2"
    ):
        rewards.score(["p", "p"], ["ab", "abc"], [{}, {}])
