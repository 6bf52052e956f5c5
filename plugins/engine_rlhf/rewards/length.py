"""Reward ``length``: the answer's length in words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine import Context, Said
from engine_rlhf.config.rewards import Length, reward_name
from engine_rlhf.rewards.scoring import Row


class LengthReward:
    """The number of words in an answer, divided by the scale."""

    def __init__(self, config: Length) -> None:
        self._config = config

    def score(
        self, prompts: Sequence[Said], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        words = torch.tensor([len(answer.split()) for answer in completions])
        return {reward_name(self._config): words / self._config.scale}


def build(config: Length, context: Context) -> LengthReward:
    """Builds the reward."""
    return LengthReward(config)
