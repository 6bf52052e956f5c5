"""Reward ``tests``: runs an answer's code on the tests in its row."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from engine import Context, Said
from engine_evals.config import Tests
from engine_evals.rewards.columns import Columns, programs
from engine_evals.sandbox.program import Limits
from engine_evals.sandbox.sandbox import Sandbox

_FENCED = re.compile(r"```[\w+#.-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
"""A block of code in Markdown; a truncated one has no closing fence."""


class CodeTestsReward:
    """Runs the code of each answer on the tests of its row."""

    def __init__(self, config: Tests, *, unsandboxed: bool = False) -> None:
        """Raises RunError where no sandbox works, unless programs may run ``unsandboxed``."""
        self._config = config
        limits = Limits(wall=config.seconds, cpu=math.ceil(config.seconds))
        self._sandbox = Sandbox(limits=limits, allow_unsandboxed=unsandboxed)

    def score(
        self, prompts: Sequence[Said], completions: Sequence[str], rows: Sequence[Columns]
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
    """The last block of code of an answer in Markdown; the whole answer if it has none."""
    blocks: list[str] = _FENCED.findall(answer)
    return blocks[-1] if blocks else answer


def build(config: Tests, context: Context) -> CodeTestsReward:
    """Builds the reward. Raises RunError where no sandbox works."""
    return CodeTestsReward(config, unsandboxed=context.allows("code"))
