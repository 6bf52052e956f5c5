"""Small copies of configs: what is kept, and that models can be built of them."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine import shrunk_config


def test_what_makes_the_architecture_stays():
    """Depth, kinds of layers, scalings, one head of keys for two; widths and windows shrink."""
    config = AutoConfig.for_model("gemma3_text", attention_dropout=0.1)
    small = shrunk_config(config, parts=2)
    assert small.layer_types == config.layer_types
    assert small.num_hidden_layers == config.num_hidden_layers
    assert small.query_pre_attn_scalar == config.query_pre_attn_scalar
    assert (small.num_attention_heads, small.num_key_value_heads) == (4, 2)
    assert (small.hidden_size, small.vocab_size, small.sliding_window) == (64, 64, 4)
    assert small.attention_dropout == 0.0
    assert config.hidden_size == 2304  # the original is as it was


def test_configs_within_it_shrink_alike():
    """A layer's own sizes, and those of attention and experts that have configs of their own."""
    config = AutoConfig.for_model("dots3_note_text")
    small = shrunk_config(config).per_layer_config[2]
    assert (small.num_attention_heads, small.qk_nope_head_dim) == (2, 16)
    config = AutoConfig.for_model("dbrx", attn_config={"kv_n_heads": 8, "rope_theta": 1e4})
    small = shrunk_config(config)
    assert (small.d_model, small.n_heads, small.attn_config.kv_n_heads) == (64, 4, 2)
    assert small.ffn_config.hidden_size == 64


def test_what_is_small_keeps_its_widths():
    """But not its windows."""
    config = AutoConfig.for_model("mistral", hidden_size=24, num_attention_heads=4, head_dim=6)
    small = shrunk_config(config)
    assert (small.hidden_size, small.head_dim, small.sliding_window) == (24, 6, 4)


_KINDS = (
    "llama gpt2 phi3 deepseek_v3 starcoder2 gpt_oss codegen gptj diffllama bamba zamba2 "
    "granitemoehybrid mamba rwkv recurrent_gemma mpt gemma4_text"
)


@pytest.mark.parametrize("kind", _KINDS.split())
def test_models_can_be_built_of_it(kind):
    """Heads of every kind, also cut into four or two; latent keys, experts, states, two vocabularies;
    longer factors of rotary angles than pairs."""
    config = AutoConfig.for_model(kind)
    if kind == "phi3":
        factors = [1.0 + i / 48 for i in range(48)]
        config.rope_parameters |= {
            "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
            "original_max_position_embeddings": 4096,
        }  # fmt: skip
    model = AutoModelForCausalLM.from_config(shrunk_config(config))
    assert sum(p.numel() for p in model.parameters()) < 20_000_000
    with torch.no_grad():
        assert model(input_ids=torch.arange(20)[None], use_cache=False).logits.isfinite().all()
