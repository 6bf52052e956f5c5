"""Architectures of transformers: each is computed as transformers computes it, or refused at once."""

from __future__ import annotations

import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from engine_lm.config import CausalLM
from engine_lm.models import build_causal_lm
from engine_lm.next_token import build as build_next_token
from engine_lm.training_config import NextToken
from engine_lm.trials.table import unread

from engine import (
    Batch,
    Generation,
    LogLikelihood,
    SpecError,
)
from engine.modeling import ObjectiveModule, attend, examine, reads_packed, with_scalar_head

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
PLAIN = {n: v for n, v in SIZES.items() if n not in ("intermediate_size", "num_key_value_heads")}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
LATENT = {
    **SIZES, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "head_dim": 8,
}  # fmt: skip
MODELS = {
    "llama": SIZES,
    "gpt2": GPT2,
    "mistral": {**SIZES, "sliding_window": 4},
    "gemma3_text": {**SIZES, "head_dim": 16},
    "gemma2": {**SIZES, "head_dim": 16, "final_logit_softcapping": 3.0},
    "gemma2 uncapped": {**SIZES, "head_dim": 16, "final_logit_softcapping": None},
    "cohere": {**SIZES, "logit_scale": 0.25},
    "granite scaled": {**SIZES, "logits_scaling": 2.0},
    "mixtral": {**SIZES, "num_local_experts": 4},
    "qwen3_moe": {**SIZES, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "deepseek_v3": LATENT,
    "granite": SIZES,
    "opt": {**PLAIN, "word_embed_proj_dim": 32, "ffn_dim": 48},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "falcon": PLAIN,
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "bamba": {
        **SIZES, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8,
    },
}  # fmt: skip
APART = {"opt", "bloom", "falcon", "mamba", "bamba"}
"""Those that read packed documents in rows of one each."""
REFUSED = {
    "modernbert-decoder": ({**PLAIN, "intermediate_size": 48}, "between backbone and head"),
    "bert": ({**PLAIN, "intermediate_size": 48}, "is not causal"),
    "mixtral balanced": (
        {**SIZES, "num_local_experts": 4, "output_router_logits": True},
        "another loss than the cross-entropy.*output_router_logits: false",
    ),
}


def _model(name, config, context):
    torch.manual_seed(0)
    architecture = name.split()[0]
    given = {"init_std" if name == "opt" else "initializer_range": 0.2, **config}
    return build_causal_lm(CausalLM(architecture=architecture, config=given), context).eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_of_packed_documents_is_transformers_of_each_alone(name, context):
    """To 1e-5, which is float32's rounding and no leak of another document: those are 5e-4 and more."""
    model = _model(name, MODELS[name], context)
    examine(model, learns=True)
    assert reads_packed(model) == (name not in APART)
    documents = [torch.randint(5, 250, (n,)) for n in (9, 1, 14)]
    ids = torch.cat([*documents, torch.zeros(2, dtype=torch.long)])  # with padding of single tokens
    labels = torch.cat([*(torch.cat([d[1:], torch.tensor([-100])]) for d in documents)])
    labels = torch.cat([labels, torch.full((2,), -100)])
    places = torch.cat(
        [*(torch.arange(len(d)) for d in documents), torch.zeros(2, dtype=torch.long)]
    )
    batch = Batch(
        {"input_ids": ids[None], "position_ids": places[None]},
        {"labels": labels[None]},
        {"loss": 21},
        24,
    )
    found = ObjectiveModule(model, build_next_token(NextToken(), context))(batch)["loss"]
    attend(model)
    expected = sum(
        (len(d) - 1) * model(input_ids=d[None], labels=d[None], use_cache=False).loss
        for d in documents
        if len(d) > 1
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_would_be_computed_wrongly_is_refused(name, context):
    """Before the first step, with the reason, by a trial of its forward pass and not by the table."""
    config, why = REFUSED[name]
    with unread():
        model = _model(name, config, context)
    with pytest.raises(SpecError, match=f"(?s)'{name.split()[0]}' .*{why}"):
        examine(model, learns=True)


def test_a_loss_of_its_own_does_not_matter_where_a_model_is_only_scored(context):
    """The balance of experts is training's."""
    config, _ = REFUSED["mixtral balanced"]
    examine(_model("mixtral", config, context), learns=False)


@pytest.mark.parametrize(
    "name",
    ["deepseek_v3", "gemma2", "gemma2 uncapped", "cohere", "mixtral", "opt", "mamba", "bamba"],
)
def test_texts_are_transformers(name, context, tokenizer):
    """Greedy, token by token by its own forward pass: values narrower than keys, no fused attention,
    experts, positions of an odd kind, states in place of keys, and before keys."""
    model = _model(name, MODELS[name], context)
    attend(model)
    text = SharedPrefixLM(model, tokenizer).generate(Generation("the cat", max_tokens=8))
    expected = tokenizer.encode("the cat", add_special_tokens=False)
    prompt, logprob = len(expected), 0.0
    with torch.no_grad():
        for _ in text.ids:
            logits = model(input_ids=torch.tensor([expected]), use_cache=False).logits
            best = logits[0, -1].log_softmax(-1).max(-1)
            expected.append(int(best.indices))
            logprob += float(best.values)
    assert list(text.ids) == expected[prompt:]
    assert text.logprob == pytest.approx(logprob, abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_in_16_bits_it_is_scored_and_answers(name, context, tokenizer):
    """As in training at this precision, also where the last hidden states are wider than the head."""
    model = _model(name, MODELS[name], context)
    examine(model, learns=True)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    attend(model)
    lm = SharedPrefixLM(model, tokenizer)
    assert lm.generate(Generation("the cat", max_tokens=2)).tokens >= 1
    (answer,) = lm.loglikelihoods([LogLikelihood("the cat", " sat")])
    assert -100 < answer.logprob < 0


@pytest.mark.parametrize("name", ["gemma2 uncapped", "opt"])
def test_a_stage_that_has_trained_leaves_a_model(name, tiny_spec, run_here):
    """Without fused attention, and without packed rows; it is scored as in training."""
    stages = tiny_spec["stages"]
    config = {**MODELS[name], "max_position_embeddings": 32}
    stages["base"]["train"] |= {
        "model": {"type": "causal-lm", "architecture": name.split()[0], "config": config},
        "precision": "fp32",
        "budget": "2 steps",
    }
    stages["scores"] = {
        "evaluate": {"models": ["base"], "data": "corpus", "evaluators": [{"type": "perplexity"}]}
    }
    run = run_here(tiny_spec)
    assert run.weights("base")
    scores = [e["value"] for e in run.events("score") if e["metric"] == "perplexity"]
    assert scores[-2] == pytest.approx(scores[-1], rel=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "opt"])
def test_a_scalar_model_is_tried_as_well(name, context):
    """Also where it knows no token to pad rows with."""
    model = with_scalar_head(_model(name, MODELS[name], context), 0)
    model.config.pad_token_id = None
    examine(model, learns=True)
    assert reads_packed(model) == (name not in APART)
