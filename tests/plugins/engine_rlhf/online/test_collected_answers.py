"""A round collects answers as they are asked for, with log-probabilities, rewards and costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from engine_rlhf.config.online import Constraint
from engine_rlhf.config.rewards import Length
from pydantic import ValidationError
from support.online_objectives import EVERY, covers

from engine import Generation, Preference, Prompt, RunError


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
def test_a_cost_has_a_weight_and_a_name(make, models, kind):
    """So a reward can be a cost; and no two multipliers are confused."""
    cost = Constraint(reward=Length(name="no-text", weight=-2.0))
    episodes = _collected(make(kind, constraints=[cost]), models)
    counted = [-2.0 * one.texts[1].count("\ufffd") for one in episodes]
    assert [one.costs for one in episodes] == [[value] for value in counted]
    assert any(counted)
    with pytest.raises(ValidationError, match="two of them are called"):
        make(kind, constraints=[cost, cost])


@EVERY
def test_a_reward_of_the_wrong_shape_is_named(make, models, kind):
    """Before anything is learned from it."""
    objective = make(kind, rewards=[Length(name="broken")])
    with pytest.raises(RunError, match="reward 'broken'"):
        _collected(objective, models)
