"""The rewards of answers become the advantages that each online objective defines."""

from __future__ import annotations

import numpy as np
import pytest
from engine_rlhf.config.online import Constraint
from engine_rlhf.config.rewards import Length
from support.online_objectives import EVERY, covers, episode


@EVERY
@covers("rewards", "reward_clip", "missing_eos_penalty", "length_penalty")
@pytest.mark.covers("reward/length.weight")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 3.0),
        ({"rewards": [Length(name="a", weight=-2.0)]}, -6.0),
        ({"missing_eos_penalty": 0.5}, 2.5),
        ({"length_penalty": 0.25}, 2.0),
        ({"reward_clip": 1.5}, 1.5),
        ({"reward_clip": 1.5, "rewards": [Length(name="a", weight=-2.0)]}, -1.5),
        ({"reward_clip": 2.75, "missing_eos_penalty": 0.5}, 2.5),
    ],
)
def test_an_episodes_reward(make, kind, fields, expected):
    """The weighted sum, less penalties, clipped."""
    objective = make(kind, **fields)
    assert objective.total(episode(4, reward=3.0, ended=False)) == pytest.approx(expected)
    if "missing_eos_penalty" in fields:
        assert objective.total(episode(4, reward=0.5, ended=True)) == pytest.approx(0.5)


@pytest.mark.covers("objective/ppo.kl", "objective/ppo.gamma", "objective/ppo.gae_lambda")
def test_ppo_rewards_each_step(make):
    """−β·(log π − log π_ref) at every token; the reward at the state after the end, where there is
    room for one; with a critic of nought, λ = 1 and γ the advantage is the discounted rest."""
    objective = make("ppo", kl=0.5, gae_lambda=1.0, gamma=0.9)
    short, long = episode(4, reward=2.0), episode(6, reward=2.0, ended=False)
    (found,) = objective.estimates([short, long])
    steps = [-0.05] * 4 + [2.0]
    expected = [sum(0.9 ** (k - t) * steps[k] for k in range(t, 5)) for t in range(5)]
    assert found[0] == pytest.approx(expected, abs=1e-6)
    steps = [-0.05] * 5 + [1.95]
    expected = [sum(0.9 ** (k - t) * steps[k] for k in range(t, 6)) for t in range(6)]
    assert found[1] == pytest.approx(expected, abs=1e-6)
    near = make("ppo", kl=0.5, gae_lambda=0.0, gamma=0.9)
    (found,) = near.estimates([short])
    assert found[0] == pytest.approx([-0.05] * 4 + [2.0], abs=1e-6)


@pytest.mark.covers("objective/ppo.whiten_rewards", "objective/ppo.whitening")
def test_ppo_whitens(make):
    """Advantages always: over n or n − 1. Rewards where it is asked for, which keep their mean."""
    few = [episode(2, reward=r, apart=a) for r, a in ((1.0, 0.1), (2.0, 0.3), (-1.0, 0.2))]
    learned = {}
    for name, fields in (
        ("plain", {}),
        ("unbiased", {"whitening": "unbiased"}),
        ("rewards", {"whiten_rewards": True}),
    ):
        examples = make("ppo", answer_tokens=3, **fields).learn(few).episodes
        places = [e.fields["labels"] != -100 for e in examples]
        learned[name] = np.concatenate(
            [e.fields["advantages"][p] for e, p in zip(examples, places, strict=True)]
        )
    assert learned["plain"].mean() == pytest.approx(0, abs=1e-6)
    assert learned["plain"].var() == pytest.approx(1, abs=1e-5)
    assert learned["unbiased"] == pytest.approx(learned["plain"] * np.sqrt(5 / 6), abs=1e-5)
    assert not np.allclose(learned["rewards"], learned["plain"], atol=1e-3)


@pytest.mark.covers("objective/rloo.kl", "objective/rloo.answers", "objective/rloo.normalize")
def test_rloo_compares_with_the_others(make):
    """R − β·KL, less the mean of the other answers' to the same prompt."""
    episodes = [episode(2, reward=r, apart=a) for r, a in ((1, 0.1), (2, 0), (4, 0), (0, 0))]
    assert _compared(make("rloo", kl=0.5, answers=2), episodes) == pytest.approx(
        [-1.1, 1.1, 4.0, -4.0]
    )
    found = _compared(make("rloo", kl=0.5, answers=4), episodes)
    scores = np.array([0.9, 2.0, 4.0, 0.0])
    expected = scores - (scores.sum() - scores) / 3
    assert found == pytest.approx(expected.tolist())
    assert _compared(make("rloo", kl=0.5, answers=4, normalize=True), episodes) == pytest.approx(
        ((expected - expected.mean()) / (expected.std(ddof=1) + 1e-4)).tolist()
    )


@pytest.mark.covers("objective/grpo.answers", "objective/grpo.scale")
def test_grpo_compares_within_its_group(make):
    """Centred by group, divided by the group's or the round's standard deviation, or not at all."""
    rewards = np.array([[1.0, 2.0], [4.0, 0.0]])
    episodes = [episode(2, reward=r) for r in rewards.ravel()]
    centred = rewards - rewards.mean(1, keepdims=True)
    expected = {
        "none": centred,
        "group": centred / (rewards.std(1, ddof=1, keepdims=True) + 1e-4),
        "round": centred / (rewards.std(ddof=1) + 1e-4),
    }
    for scale, values in expected.items():
        assert _compared(make("grpo", answers=2, scale=scale), episodes) == pytest.approx(
            values.ravel().tolist(), rel=1e-5
        )
    assert make("grpo", answers=4).episodes_per_prompt == 4


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ppo", {}),
        ("rloo", {"answers": 2, "normalize": True}),
        ("grpo", {"answers": 2, "scale": "round"}),
        ("grpo", {"answers": 2, "scale": "group"}),
    ],
)
def test_advantages_are_scaled_when_costs_are_in_them(make, kind, fields):
    """As those of the reward (r − λc)/(1 + λ) are: a cost counts by its size, not by its spread."""
    fields = {"kl": 0.0, **fields}
    constraint = Constraint(reward=Length(name="b"), limit=0.0, start=0.5)
    told = ((1.0, 0.0), (2.0, 30.0), (0.5, 20.0), (4.0, 10.0))
    costly = [episode(3, reward=r, cost=(c,)) for r, c in told]
    found = _compared(make(kind, constraints=[constraint], **fields), costly)
    alone = [episode(3, reward=(r - 0.5 * c) / 1.5) for r, c in told]
    assert found == pytest.approx(_compared(make(kind, **fields), alone), rel=1e-4)


def _compared(objective, episodes):
    """The advantage that all tokens of an answer have."""
    places = [len(e.prompt) - 1 for e in episodes]
    examples = objective.learn(episodes).episodes
    return [float(e.fields["advantages"][p]) for e, p in zip(examples, places, strict=True)]
