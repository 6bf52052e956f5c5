"""Sizes told from configurations are those of the models that transformers builds."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from engine_lm import config as configs
from engine_lm.models import build_causal_lm, build_llama
from engine_lm.trials.tiny_config import tiny_config
from transformers import AutoConfig, AutoModelForCausalLM

from engine import parameter_count, shape_of

SIZES = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512}
ARCHITECTURES = {
    "llama": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "mistral": {"num_key_value_heads": 2},
    "qwen3": {"head_dim": 64, "num_key_value_heads": 2},
    "gemma": {"head_dim": 32, "num_key_value_heads": 1},
    "granite": {},
    "starcoder2": {},
    "gpt_neox": {},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 64, "num_key_value_heads": 2},
}


class _Tokenizer:
    """As far as models ask."""

    bos_token_id = eos_token_id = 0
    pad_token_id = 1

    def __len__(self) -> int:
        return 500


CONTEXT = SimpleNamespace(tokenizer=_Tokenizer)


def _count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _written(folder, architecture: str, **fields) -> tuple[configs.Pretrained, int]:
    """A folder with the config.json that such a model is saved with, and its parameters."""
    made = AutoConfig.for_model(
        architecture, **SIZES, intermediate_size=352, pad_token_id=1, **fields
    )
    with torch.device("meta"):
        count = _count(AutoModelForCausalLM.from_config(made))
    made.save_pretrained(folder)
    return configs.Pretrained(path=str(folder)), count


def test_layers_may_have_sizes_of_their_own(tmp_path):
    """Where transformers gives no number of heads for all of them."""
    small = tiny_config("dots3_note_text")
    made = AutoConfig.for_model("dots3_note_text", vocab_size=500, pad_token_id=1, **small)
    with torch.device("meta"):
        count = _count(AutoModelForCausalLM.from_config(made))
    made.save_pretrained(tmp_path)
    shape = configs.Pretrained(path=str(tmp_path)).built_shape(None)
    assert (parameter_count(shape), shape.heads) == (count, small["num_attention_heads"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_config_json_tells_the_size(architecture, tmp_path):
    """Read as data: parameters to half a per cent, most to the last one."""
    config, count = _written(tmp_path, architecture, **ARCHITECTURES[architecture])
    shape = config.shape(None)
    assert parameter_count(shape) == pytest.approx(count, rel=0.005)
    assert (shape.layers, shape.hidden_size, shape.vocabulary) == (3, 128, 512)


def test_embeddings_grow_with_the_tokenizer(tmp_path):
    """To whole 64s, unless the spec says no; smaller vocabularies change nothing."""
    config, _ = _written(tmp_path, "llama")
    assert config.shape(400).vocabulary == 512
    assert config.shape(520).vocabulary == 576
    assert config.model_copy(update={"resize_embeddings": False}).shape(520).vocabulary == 512


def test_a_model_on_the_hub_is_not_looked_up():
    """Its size is not known."""
    hub = configs.Pretrained(path="nobody/nothing", revision="a" * 40)
    assert hub.shape(500) is hub.context_length() is None


def test_sizes_of_models_from_scratch():
    """To the last parameter; what is left to an architecture's defaults is not guessed."""
    for fields in ({}, {"kv_heads": 2, "tie_embeddings": False}, {"intermediate_size": 100}):
        config = configs.Llama(hidden_size=64, layers=2, **fields)
        assert parameter_count(config.shape(500)) == _count(build_llama(config, CONTEXT))
    assert configs.Llama().shape(None) is None
    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 32}
    gpt2 = configs.CausalLM(architecture="gpt2", config=sizes)
    counted = _count(build_causal_lm(gpt2, CONTEXT)) - 32 * 64  # learned positions
    assert parameter_count(gpt2.shape(500)) == counted
    assert configs.CausalLM(architecture="gpt2", config={"n_layer": 2}).shape(500) is None


def test_a_stage_s_model_is_that_of_the_stage_before(tiny_spec, write_spec):
    """Through any chain; the data that counts is that of the stage where it came in."""
    from engine import load_spec

    stages = tiny_spec["stages"]
    stages["chat"] = {"train": {**stages["base"]["train"], "model": "base"}}
    stages["more"] = {"train": {**stages["base"]["train"], "model": "chat"}}
    loaded = load_spec(write_spec(tiny_spec)).spec.stages
    shapes = [shape_of(loaded, name) for name in ("base", "chat", "more")]
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0].vocabulary == 320


def test_attention_is_told_apart(tmp_path):
    """On a CPU llama and its like keep scores below the diagonal, others use a fused kernel."""
    llama, _ = _written(tmp_path / "llama", "llama")
    opt, _ = _written(tmp_path / "opt", "opt")
    for device, scores in (("cpu", "causal"), ("cuda", "none")):
        assert configs.Llama().scores(device) == llama.scores(device) == scores
        assert opt.scores(device) == "none"
        assert configs.CausalLM(architecture="gpt2").scores(device) == "none"


def test_json_without_sizes(tmp_path):
    """A config.json that says too little leaves the size open."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    assert configs.Pretrained(path=str(tmp_path)).shape(100) is None
