"""The online objectives by name, rewards that count letters, and answers that are made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_rlhf.config.online import GRPO, PPO, RLOO
from engine_rlhf.online.group import build_grpo, build_rloo
from engine_rlhf.online.objective import Episode
from engine_rlhf.online.ppo import build

BUILDERS = {"ppo": (PPO, build), "rloo": (RLOO, build_rloo), "grpo": (GRPO, build_grpo)}
EVERY = pytest.mark.parametrize("kind", BUILDERS)


def covers(*fields):
    """The fields of all three objectives."""
    return pytest.mark.covers(
        *(f"objective/{kind}.{field}" for kind in BUILDERS for field in fields)
    )


class Letters:
    """How often a letter is in an answer."""

    def __init__(self, name="a", broken=False):
        self.name, self.broken = name, broken

    def score(self, prompts, completions, rows):
        letter = "\ufffd" if self.name == "no-text" else self.name  # most of what models here write
        values = [float(text.count(letter)) for text in completions]
        return {self.name: torch.tensor(values[:-1] if self.broken else values)}


def episode(n=4, *, reward=1.0, cost=(), ended=True, apart=0.1, values=0.0):
    """An answer of ``n`` tokens after a prompt of two, each ``apart`` nats likelier than it was."""
    return Episode(
        prompt=np.array([10, 11]),
        answer=np.arange(20, 20 + n),
        logprobs=np.full(n, -1.0, np.float32),
        reference=np.full(n, -1.0 - apart, np.float32),
        deployed=0.0,
        ended=ended,
        rewards={"a": reward},
        costs=list(cost),
        texts=("p", "a"),
        values={
            name: np.full(n + 1, values, np.float32) for name in ("value", "value-b", "value-c")
        },
    )
