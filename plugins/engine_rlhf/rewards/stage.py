"""Reward ``stage``: the normalised value from a reward or cost model of this run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine import Context, LanguageModel, Said
from engine_rlhf.config.rewards import StageReward
from engine_rlhf.rewards.scoring import Row
from engine_rlhf.stage_models import scalar_model


class ModelReward:
    """The value of a scalar model at the end of an answer."""

    def __init__(self, lm: LanguageModel, name: str) -> None:
        self._lm, self._name = lm, name

    def score(
        self, prompts: Sequence[Said], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        tools = (row.get("tools") for row in rows)
        values = self._lm.scores(list(zip(prompts, completions, tools, strict=True)))
        return {self._name: torch.tensor([value for value, _ in values])}


def build(config: StageReward, context: Context) -> ModelReward:
    """Builds the reward. Raises RunError where the stage's model gives no single number."""
    model, tokenizer = scalar_model(context, config.stage)
    return ModelReward(context.language_model(model, tokenizer), config.name or config.stage)
