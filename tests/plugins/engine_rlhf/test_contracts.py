"""The kit's contracts, kept by objectives that make their own data, and by rewards."""

from __future__ import annotations

import pytest
from support.internals import Artifact

from engine.testing import StandAloneContext, check_component

ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 6}
COSTS = [{"reward": {"type": "length", "name": "cost", "scale": 3}, "limit": 0.5}]


@pytest.fixture(scope="module")
def context(bench, tmp_path_factory):
    """With a reward stage."""
    folder = tmp_path_factory.mktemp("reward") / "final"
    model = bench.model(seed=2, scalar=True)
    Artifact.save(folder, model, model.state_dict().items(), bench.context.tokenizer())
    return StandAloneContext(folders={**bench.context.folders, "reward": folder})


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "ppo"},
        {"type": "ppo", "constraints": COSTS, "adaptive_kl": {}, "value": "reward"},
        {"type": "rloo", "constraints": COSTS},
        {"type": "grpo", "kl": 0.1},
        {"type": "grpo", "average": "answer", "reference": "other", "kl": 0.1},
    ],
    ids=str,
)
def test_online_objectives(context, settings):
    """Rounds that any number of ranks makes alike, kept and resumed, and sums that add up."""
    check_component("objective", {**ONLINE, **settings}, context)


@pytest.mark.parametrize(
    "settings", [{"type": "length", "scale": 2.5}, {"type": "stage", "stage": "reward"}], ids=str
)
def test_rewards(context, settings):
    """A number for each answer by itself, an empty one too."""
    check_component("reward", settings, context)


def test_trl_ppo(context):
    """It trains, tells, and leaves a critic."""
    settings = {"type": "trl-ppo", "reward": "reward", "answer_tokens": 6, "passes": 1}
    check_component("objective", settings, context)
