"""Rewards that check an answer by its record's own columns: the right answer, or tests of code."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from engine import Context
from engine_evals.columns import Row, last_number, programs, right_answer
from engine_evals.maths import Judge
from engine_evals.reward_config import Answer, Tests
from engine_evals.sandbox import Limits, Sandbox

_FENCED = re.compile(r"```[a-z]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
"""Code in Markdown; what was cut off has no end."""


class AnswerReward:
    """Compares answers with the column, by their last number or their value."""

    def __init__(self, config: Answer) -> None:
        """Raises RunError where values cannot be compared."""
        self._config, self._judge = config, Judge()
        if config.by == "value":
            self._judge.compare("1", "1")

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        pairs = zip(completions, rows, strict=True)
        right = [self._right(right_answer(row, self._config.column), text) for text, row in pairs]
        return {self._config.name or "answer": torch.tensor(right, dtype=torch.float32)}

    def _right(self, gold: str, answer: str) -> bool:
        if self._config.by == "value":
            return self._judge.compare(gold, answer).same
        return last_number(answer) == last_number(gold)


class TestsReward:
    """Runs every answer's code on the tests of its row."""

    def __init__(self, config: Tests, *, unsandboxed: bool = False) -> None:
        """Raises RunError where there is no sandbox, and programs may not run ``unsandboxed``."""
        self._config = config
        limits = Limits(wall=config.seconds, cpu=math.ceil(config.seconds))
        self._sandbox = Sandbox(limits=limits, allow_unsandboxed=unsandboxed)

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        config = self._config
        asked = [
            programs(code_of(text), row, config.column, apart=config.partial)
            for text, row in zip(completions, rows, strict=True)
        ]
        outcomes = iter(self._sandbox.run_all([one for several in asked for one in several]))
        passed = [
            statistics.fmean(outcome.passed for outcome in islice(outcomes, len(several)))
            for several in asked
        ]
        return {config.name or "tests": torch.tensor(passed, dtype=torch.float32)}


def code_of(answer: str) -> str:
    """The last block of code of an answer in Markdown; all of another."""
    blocks: list[str] = _FENCED.findall(answer)
    return blocks[-1] if blocks else answer


def build_answer(config: Answer, context: Context) -> AnswerReward:
    """The reward. Raises RunError where values cannot be compared."""
    return AnswerReward(config)


def build_tests(config: Tests, context: Context) -> TestsReward:
    """The reward. Raises RunError where there is no sandbox."""
    return TestsReward(config, unsandboxed=context.allows("code"))
