"""An online objective on the tiny model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from engine_rlhf.config.rewards import Length
from support.online_objectives import BUILDERS, Letters


@pytest.fixture
def make(bench):
    """An objective on the bench's tokenizer, whose rewards count letters."""

    def build_one(kind, rewards=None, **fields):
        rewards = rewards or [Length(name="a")]
        config_class, factory = BUILDERS[kind]
        context = SimpleNamespace(
            seed=7,
            rank=0,
            tokenizer=bench.context.tokenizer,
            artifact=bench.context.artifact,
            component=lambda kind, config: Letters(config.name, broken=config.name == "broken"),
        )
        return factory(config_class(rewards=rewards, **{"answer_tokens": 6, **fields}), context)

    return build_one
