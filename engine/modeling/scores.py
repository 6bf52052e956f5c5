"""Scores: weighted sums of rewards, and ratios with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from engine.contracts.component_config import RewardConfig
from engine.contracts.context import Context
from engine.contracts.records import Said
from engine.contracts.scoring import Reward
from engine.errors import RunError


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float | None]:
    """Σ above / Σ below, with its standard error (Cochran, Sampling Techniques, section 6.3).

    The standard error is None for fewer than two pairs.
    """
    count, total = len(above), math.fsum(below)
    value = math.fsum(above) / max(total, 1.0)
    if count < 2:
        return value, None
    squares = math.fsum((a - value * b) ** 2 for a, b in zip(above, below, strict=True))
    return value, math.sqrt(squares * count / (count - 1)) / max(total, 1.0)


class RewardSum:
    """The rewards that a configuration lists: their scores, and the weighted sum of these."""

    def __init__(self, configs: Sequence[RewardConfig], context: Context) -> None:
        self._rewards: list[tuple[RewardConfig, Reward]] = [
            (config, context.component("reward", config)) for config in configs
        ]

    def score(
        self,
        prompts: Sequence[Said],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[dict[str, float]]:
        """The unweighted scores of each completion, by the reward's name; a second reward of the same
        name gets a number appended.

        Raises RunError where a reward does not give one finite number for each completion.
        """
        scores: list[dict[str, float]] = [{} for _ in completions]
        for number, (config, reward) in enumerate(self._rewards):
            label = config.name or config.type_name
            values = [value.double() for value in reward.score(prompts, completions, rows).values()]
            total = sum(values[1:], values[0]) if values else None
            if total is None or total.shape != (len(completions),) or not total.isfinite().all():
                raise RunError(
                    f"reward '{label}' did not give one finite number for each of "
                    f"{len(completions)} answers",
                    hint="correct the reward and run again; finished work is kept",
                )
            for score, value in zip(scores, total.tolist(), strict=True):
                score[label if label not in score else f"{label}-{number}"] = value
        return scores

    def weighted(self, scores: Mapping[str, float]) -> dict[str, float]:
        """One completion's scores, each times its reward's weight."""
        return {
            name: config.weight * value
            for (config, _), (name, value) in zip(self._rewards, scores.items(), strict=True)
        }

    def total(self, scores: Mapping[str, float]) -> float:
        """The weighted sum of one completion's scores."""
        return sum(self.weighted(scores).values())
