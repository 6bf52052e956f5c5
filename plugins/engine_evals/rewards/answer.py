"""Reward ``answer``: compares an answer with the right one in its row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine import Context, Said
from engine_evals.benchmarks.math_matching import Judge
from engine_evals.config import Answer
from engine_evals.rewards.columns import Columns, last_number, right_answer


class AnswerReward:
    """Compares answers with their rows' right ones, by the last number or by mathematical value."""

    def __init__(self, config: Answer) -> None:
        """Raises RunError where values cannot be compared."""
        self._config, self._judge = config, Judge()
        if config.by == "value":
            self._judge.compare("1", "1")

    def score(
        self, prompts: Sequence[Said], completions: Sequence[str], rows: Sequence[Columns]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        pairs = zip(completions, rows, strict=True)
        right = [self._right(right_answer(row, self._config.column), text) for text, row in pairs]
        return {self._config.name or "answer": torch.tensor(right, dtype=torch.float32)}

    def _right(self, gold: str, answer: str) -> bool:
        if self._config.by == "value":
            return self._judge.compare(gold, answer).same
        return last_number(answer) == last_number(gold)


def build(config: Answer, context: Context) -> AnswerReward:
    """The reward. Raises RunError where values cannot be compared."""
    return AnswerReward(config)
