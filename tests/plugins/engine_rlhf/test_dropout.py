"""Objectives that compare a model with itself learn without dropout, unless it is asked for."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine import Plugins, SpecError, load_spec
from engine.testing import StandAloneContext

REWARDS = {"rewards": [{"type": "length"}], "answer_tokens": 8}
OBJECTIVES = {
    "reward": {},
    "cost": {},
    "dpo": {},
    "kto": {},
    "distill": {"teacher": "other"},
    "ppo": REWARDS,
    "rloo": {**REWARDS, "answers": 2},
    "grpo": {**REWARDS, "answers": 2},
}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
MODELS = {
    "gpt2": {**SMALL, "resid_pdrop": 0.5, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {**SMALL, "intermediate_size": 16, "attention_dropout": 0.5},
    "falcon": {**SMALL, "hidden_dropout": 0.5},
    "persimmon": {
        **SMALL,
        "intermediate_size": 16,
        "attention_dropout": 0.5,
        "hidden_dropout": 0.0,
    },
    "opt": {**SMALL, "ffn_dim": 16, "word_embed_proj_dim": 16, "dropout": 0.5},
}
"""Dropout as modules, as numbers of modules, and as numbers read from the configuration."""


def _acts(model) -> bool:
    """Whether two passes of the same weights in training differ."""
    ids = torch.arange(12)[None]
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = (model.train()(ids, use_cache=False).logits for _ in range(2))
    return not torch.equal(first, second)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return {
        name: AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **fields))
        for name, fields in MODELS.items()
    }


@pytest.mark.covers(*(f"objective/{name}.dropout" for name in OBJECTIVES))
@pytest.mark.parametrize("name", OBJECTIVES)
def test_dropout_acts_only_where_it_is_asked_for(bench, models, name):
    """Of every objective that has the field, in every form that models have it; their configurations,
    which are exported, keep their rates."""
    for family, model in models.items():
        for dropout in (False, True):
            learner = copy.deepcopy(model)
            bench.objective(name, **OBJECTIVES[name], dropout=dropout).attach(learner)
            assert _acts(learner) == dropout, family
            assert learner.config.to_dict() == model.config.to_dict()


def test_every_objective_with_the_field_is_swept():
    """A new one would else be forgotten above."""
    found = Plugins.discover().selected(()).of_kind("objective")
    assert set(OBJECTIVES) == {
        name for name, one in found.items() if "dropout" in one.load_config().model_fields
    }


@pytest.mark.parametrize("dropout", [False, True])
def test_critics_are_as_their_policy(bench, models, dropout):
    """Also one that starts as a copy of a model whose dropout is on."""
    objective = bench.objective("ppo", **REWARDS, dropout=dropout)
    critic = objective.companions(models["gpt2"])["value"].model
    rates = {m.p for m in critic.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == ({0.0, 0.5} if dropout else {0.0})


def test_attention_is_chosen_as_before(bench, models):
    """Layers read it from the model's configuration while they run, so it is no copy."""
    learner = copy.deepcopy(models["persimmon"])
    bench.objective("dpo").attach(learner)
    ids = torch.arange(12)[None]
    wanted = models["persimmon"].eval()(ids).logits
    for attention in ("eager", "sdpa"):
        learner.set_attn_implementation(attention)
        layer = learner.model.layers[0].self_attn
        assert layer.config._attn_implementation == attention
        torch.testing.assert_close(learner(ids).logits, wanted, rtol=1e-5, atol=1e-6)


def test_an_adapters_dropout_does_not_act_either(bench):
    """It is of the model, as for TRL."""
    context = StandAloneContext()
    model = bench.model()
    adapted = context.build("adapter", {"type": "lora", "dropout": 0.5}).attach(model)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)  # of zeros, no dropout shows
    assert _acts(adapted)
    bench.objective("dpo").attach(adapted)
    assert not _acts(adapted)


def test_an_adapters_dropout_that_would_not_act_is_refused(stage, animals, write_spec):
    """A number that the user wrote is not ignored."""
    adapted = {"type": "stage", "stage": "base", "adapter": {"type": "lora", "dropout": 0.1}}
    spec = stage({"type": "dpo"}, animals, model=adapted)
    with pytest.raises(SpecError, match=r"adapter\.dropout 0\.1 has no effect.*dropout: true"):
        load_spec(write_spec(spec))
    spec["stages"]["learned"]["train"]["objective"]["dropout"] = True
    load_spec(write_spec(spec))


def test_a_policy_starts_as_its_reference(stage, animals, run_here):
    """A stock gpt2 has dropout of 0.1 in three places. DPO starts at ln 2, and at a rate of almost
    nothing no ratio of PPO leaves its range; with dropout both are far from it."""
    spec = stage(
        {"type": "dpo"}, animals, optimizer={"type": "adamw", "lr": 1e-9}, budget="2 steps"
    )
    stages = spec["stages"]
    fields = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    base = {"type": "causal-lm", "architecture": "gpt2", "config": fields}
    stages["base"]["train"] |= {"model": base, "evaluate": [], "precision": "fp32"}
    ppo = {"type": "ppo", **REWARDS, "passes": 2}
    stages["ppo"] = {"train": {**stages.pop("learned")["train"], "objective": ppo}}
    stages["dpo"] = {"train": {**stages["ppo"]["train"], "objective": {"type": "dpo"}}}
    for name in ("dpo", "ppo"):
        train = stages[name]["train"]
        on = {**train, "objective": {**train["objective"], "dropout": True}, "budget": "2 steps"}
        stages[f"{name}-on"] = {"train": on}
    done = run_here(spec)
    assert done.status == 0
    steps = {name: [e for e in done.events("step") if e["stage"] == name] for name in stages}
    assert [e["loss"] for e in steps["dpo"]] == pytest.approx([math.log(2)] * 2, abs=1e-6)
    assert steps["dpo-on"][0]["loss"] != pytest.approx(math.log(2), abs=1e-4)
    assert [e["clipped"] for e in steps["ppo"]] == [0, 0]
    assert all(e["approx_kl"] < 1e-6 for e in steps["ppo"])
    assert all(e["approx_kl"] > 1e-4 for e in steps["ppo-on"])
    config = json.loads((done.folder / "dpo" / "final" / "config.json").read_text("utf-8"))
    assert config["resid_pdrop"] == 0.1
