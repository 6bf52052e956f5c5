"""The fields of a new model of any architecture are checked, each with its line in the spec."""

from __future__ import annotations

import pytest
from engine_lm import architectures
from engine_lm.config import CausalLM
from engine_lm.models import build_causal_lm

from engine import SpecError

NONSENSE = {
    "n_layer": ("two", "'two' is not a whole number above 0"),
    "n_head": (0, "0 is not a whole number above 0"),
    "model_type": ("llama", "set `architecture` instead"),
    "vocab_size": (3, "3 is less than the"),
    "n_layerz": (2, "unknown to architecture 'gpt2'; did you mean 'n_layer'?"),
    "attn_implementation": ("flash_attention_2", "FlashAttention2"),
    "activation_function": ("nope", "nope"),
    "attn_pdrop": ("much", "expected"),
}


@pytest.mark.parametrize("field", NONSENSE)
def test_a_field_of_a_new_model_is_told_with_its_line(field, tiny_spec, run_here):
    """Before the first step, whether the spec alone shows it or only the building."""
    value, says = NONSENSE[field]
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, field: value}
    model = {"type": "causal-lm", "architecture": "gpt2", "config": sizes}
    tiny_spec["stages"]["base"]["train"]["model"] = model
    with pytest.raises(SpecError) as error:
        run_here(tiny_spec)
    (told,) = str(error.value).splitlines()
    assert f": stages.base.train.model.config.{field}: " in told
    assert "spec.yaml:" in told
    assert says in told


def test_a_field_that_only_the_architecture_s_code_looks_for_is_taken(context):
    """transformers' config class does not list it, and the model reads it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    config = CausalLM(architecture="granite", config={**sizes, "num_key_value_heads": 2})
    attention = build_causal_lm(config, context).model.layers[0].self_attn
    assert attention.q_proj.out_features == 2 * 8


def test_the_architectures_are_transformers_own():
    """Read without importing it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert architectures.known() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
