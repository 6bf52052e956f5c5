"""What a round of answers becomes, field by field, on answers that are made by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from engine_rlhf.config.online import (
    GRPO,
    PPO,
    RLOO,
    AdaptiveKL,
    Constraint,
)
from engine_rlhf.config.rewards import Length
from engine_rlhf.online.coefficients import Multiplier, Penalty
from engine_rlhf.online.group import build_grpo, build_rloo
from engine_rlhf.online.objective import Episode
from engine_rlhf.online.ppo import build
from engine_rlhf.rewards.scoring import scored
from pydantic import ValidationError

from engine import Generation, Preference, Prompt, RunError

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


def _compared(objective, episodes):
    """The advantage that all tokens of an answer have."""
    places = [len(e.prompt) - 1 for e in episodes]
    examples = objective.learn(episodes).episodes
    return [float(e.fields["advantages"][p]) for e, p in zip(examples, places, strict=True)]


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


@EVERY
@covers("constraints")
@pytest.mark.covers("Constraint.start", "Constraint.lr", "Constraint.limit", "Constraint.reward")
def test_costs_are_weighed_against_the_reward(make, kind):
    """(A_r − Σ λ·A_c)/(1 + Σ λ); then ln λ moves by lr·λ·(mean cost − limit)."""
    constraints = [
        Constraint(reward=Length(name="b"), limit=0.5, start=2.0, lr=0.1),
        Constraint(reward=Length(name="c"), limit=-1.0, start=0.5, lr=0.3),
    ]
    extra = {} if kind == "ppo" else {"answers": 2}
    objective = make(kind, constraints=constraints, kl=0.0, **extra)
    episodes = [episode(3, reward=1.0, cost=(2.0, 0.0)), episode(3, reward=3.0, cost=(0.0, 1.0))]
    own = objective.estimates(episodes)
    combined = objective.combined(own)
    for i, found in enumerate(combined):
        expected = (own[0][i] - 2.0 * own[1][i] - 0.5 * own[2][i]) / 3.5
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    figures = objective.learn(episodes).figures
    assert (figures["lambda/b"], figures["lambda/c"]) == pytest.approx((2.0, 0.5))
    assert (figures["cost/b"], figures["violations/b"]) == (1.0, 0.5)
    assert (figures["cost/c"], figures["violations/c"]) == (0.5, 1.0)
    logs = objective.state()["multipliers"]
    assert logs[0] == pytest.approx(np.log(2.0) + 0.1 * 2.0 * (1.0 - 0.5))
    assert logs[1] == pytest.approx(np.log(0.5) + 0.3 * 0.5 * (0.5 + 1.0))
    again = make(kind, constraints=constraints, kl=0.0, **extra)
    again.load(objective.state())
    assert again.state() == objective.state()


@EVERY
def test_a_cost_has_a_weight_and_a_name(make, models, kind):
    """So a reward can be a cost; and no two multipliers are confused."""
    cost = Constraint(reward=Length(name="no-text", weight=-2.0))
    episodes = _collected(make(kind, constraints=[cost]), models)
    counted = [-2.0 * one.texts[1].count("\ufffd") for one in episodes]
    assert [one.costs for one in episodes] == [[value] for value in counted]
    assert any(counted)
    with pytest.raises(ValidationError, match="two of them are called"):
        make(kind, constraints=[cost, cost])


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


def test_a_multiplier_neither_dies_nor_overflows():
    """It moves by its logarithm, between bounds that whatever rounds cannot pass."""
    for cost, end in ((-100.0, math.exp(-10)), (100.0, math.exp(10))):
        multiplier = Multiplier(Constraint(reward=Length(), limit=0.0, lr=5.0))
        for _ in range(100):
            multiplier.move(cost)
        assert multiplier.value == pytest.approx(end)


@pytest.mark.covers("AdaptiveKL.horizon")
def test_the_penalty_moves_by_a_fifth_at_most():
    """Also where a round has more episodes than the horizon: it never turns into a reward."""
    penalty = Penalty(0.1, AdaptiveKL(target=6.0, horizon=10))
    penalty.move(0.0, 640)
    assert penalty.value == pytest.approx(0.08)
    penalty.move(100.0, 5)
    assert penalty.value == pytest.approx(0.08 * 1.1)


@pytest.fixture
def models(bench):
    """Policy and reference as language models."""
    policy, other = bench.model(), bench.model(seed=1)
    for model in (policy, other):
        model.eval().set_attn_implementation("sdpa")
    words = bench.context.tokenizer()
    return {"model": SharedPrefixLM(policy, words), "reference": SharedPrefixLM(other, words)}


def _collected(objective, models, prompts=("ab", "abc"), number=1):
    examples = {}
    for place, text in enumerate(prompts):
        record = Prompt(id=text, source="test", prompt=text)
        (example,) = objective.encode(record, objective._tokenizer, 64)
        examples[place] = example
    critics = {name: models["critic"] for name in ("value",) if "critic" in models}
    asked = {"model": models["model"], "reference": models["reference"], **critics}
    return objective.collect(number, examples, asked)


@EVERY
@covers("temperature", "answer_tokens")
def test_answers_are_sampled_as_asked(make, models, kind):
    """Log-probabilities are those at the temperature; no answer is longer than allowed."""
    for temperature, longest in ((1.0, 6), (0.7, 9)):
        objective = make(kind, temperature=temperature, answer_tokens=longest)
        episodes = _collected(objective, models)
        assert len(episodes) == 2 * objective.episodes_per_prompt
        for one in episodes:
            assert 1 <= len(one.answer) <= longest
            ids = torch.tensor([[*one.prompt, *one.answer]])
            lengths = len(one.prompt), len(one.answer)
            for found, name in ((one.logprobs, "model"), (one.reference, "reference")):
                with torch.no_grad():
                    logits = models[name].model(input_ids=ids).logits[0] / temperature
                log = logits.log_softmax(-1)[lengths[0] - 1 : -1]
                expected = log.gather(1, ids[0, lengths[0] :, None])[:, 0]
                np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@EVERY
def test_answers_depend_on_round_and_place_alone(make, models, kind):
    """So as many ranks as there are write the same; another round writes others."""
    objective = make(kind, answer_tokens=8)
    both = _collected(objective, models)
    again = _collected(objective, models)
    other = _collected(objective, models, number=2)
    assert all((a.answer == b.answer).all() for a, b in zip(both, again, strict=True))
    assert not all(np.array_equal(a.answer, b.answer) for a, b in zip(both, other, strict=True))


@EVERY
@covers("reference", "kl")
def test_the_reference_is_the_start_or_a_stage(make, bench, kind):
    """And none at all where leaving it costs nothing."""
    model = bench.model()
    kept = make(kind, kl=0.1).freeze(model)["reference"]
    assert kept is not model
    assert torch.equal(kept.lm_head.weight, model.lm_head.weight)
    named = make(kind, kl=0.1, reference="other").freeze(model)["reference"]
    assert not torch.equal(named.lm_head.weight, model.lm_head.weight)
    assert make(kind, kl=0.0).freeze(model) == {}


@pytest.mark.covers("objective/ppo.value")
def test_the_critic_starts_as_a_stage_or_the_policy(make, bench):
    """Its backbone at least; its head gives one number."""
    model = bench.model()
    own = make("ppo").companions(model)["value"].model
    named = make("ppo", value="other").companions(model)["value"].model
    ids = model.base_model.embed_tokens.weight
    assert torch.equal(own.base_model.embed_tokens.weight, ids)
    assert not torch.equal(named.base_model.embed_tokens.weight, ids)
    assert own.score.weight.shape == (1, 16)
    costs = [Constraint(reward=Length(name="b"))]
    assert set(make("ppo", constraints=costs).companions(model)) == {"value", "value-b"}


@pytest.mark.covers("objective/ppo.kl_estimator")
def test_k3_in_the_reward_is_refused_with_the_reason():
    """It estimates the divergence, but does not lead to it."""
    with pytest.raises(ValidationError, match="converges to another policy"):
        PPO(rewards=[Length(name="r")], kl_estimator="k3")
    with pytest.raises(ValidationError, match="start it above 0"):
        PPO(rewards=[Length(name="r")], kl=0, adaptive_kl={})


@EVERY
def test_prompts_come_from_records_of_several_kinds(make, kind):
    """Whatever has a prompt; one that leaves no room is left out with the reason."""
    objective = make(kind)
    words = objective._tokenizer
    pair = Preference(id="p", source="s", prompt="ab", chosen="c", rejected="d")
    (example,) = objective.encode(pair, words, 64)
    assert example.fields["prompt"] == "ab"
    (reason,) = objective.encode(pair, words, 7)
    assert "no room" in reason


@EVERY
def test_a_reward_of_the_wrong_shape_is_named(make, models, kind):
    """Before anything is learned from it."""
    objective = make(kind, rewards=[Length(name="broken")])
    with pytest.raises(RunError, match="reward 'broken'"):
        _collected(objective, models)


def test_a_reward_without_values_is_named():
    """It may forget to return what it found."""
    nothing = SimpleNamespace(score=lambda prompts, completions, rows: {})
    with pytest.raises(
        RunError, match="reward 'mine' did not give one finite number for each of 1 answers"
    ):
        scored([("mine", nothing)], ["p"], ["a"], [{}])


def test_rollouts_end_with_eos_or_at_their_longest(models):
    """The ids of EOS are part of an answer that ends by itself."""
    lm = models["model"]
    prompts = [[5, 6], [7, 8, 9]] * 20
    asked = [Generation("", 30, temperature=3.0, seed=i) for i in range(40)]
    found = lm.rollouts(prompts, asked)
    end = lm.tokenizer.eos_token_id
    assert {r.ended for r in found} <= {True, False}
    for one in found:
        assert (one.tokens[-1] == end) == one.ended
        assert end not in one.tokens[:-1]
        assert len(one.tokens) == 30 or one.ended
