"""A reward of rewards."""

import torch

from engine import Reward
from engine.modeling import RewardSum


class SumReward(Reward):
    """The weighted sum of others."""

    def __init__(self, rewards):
        self._rewards = rewards

    def score(self, prompts, completions, rows):
        """See `Reward`."""
        scores = self._rewards.score(prompts, completions, rows)
        return {"sum": torch.tensor([self._rewards.total(score) for score in scores])}


def build(config, context):
    """Builds it with its parts."""
    return SumReward(RewardSum(config.rewards, context))
