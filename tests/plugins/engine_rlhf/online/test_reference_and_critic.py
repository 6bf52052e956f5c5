"""Reference and critic start as the policy, or as a stage that is named."""

from __future__ import annotations

import pytest
import torch
from engine_rlhf.config.online import Constraint
from engine_rlhf.config.rewards import Length
from support.online_objectives import EVERY, covers


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
