"""Reads a model's sizes from its transformers config, without importing torch or transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine import ModelShape

if TYPE_CHECKING:
    from engine import Scores

_MULTIPLE = 64
_CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k")
_PLAIN = {"gpt2", "gpt_neox", "gptj", "gpt_neo", "opt", "phi", "starcoder2", "falcon", "bloom"}
"""Architectures with two-matrix feed-forward blocks, and with biases in them and in norms."""
_TIED = {
    "gpt2",
    "gpt_neo",
    "opt",
    "falcon",
    "bloom",
    "starcoder2",
    "gemma",
    "gemma2",
    "gemma3_text",
}
"""Architectures that tie embedding and head by default."""
WITH_BLOCKS = frozenset(
    "apertus arcee cohere cohere2 ernie4_5 exaone4 gemma gemma3_text glm glm4 granite helium llama "
    "ministral ministral3 mistral mixtral olmo olmo2 olmo3 phi3 qwen2 qwen3 qwen3_moe smollm3".split()
)
"""Architectures that can use :mod:`engine_lm.attention`: causal, possibly with a window, and with
documents separated by position ids alone. A test compares each with transformers' own attention; others
may pass a window that their own mask does not have."""


def round_up(number: int) -> int:
    """Rounds up to a multiple of 64, so that matrix products stay aligned."""
    return math.ceil(number / _MULTIPLE) * _MULTIPLE


def context(config: Mapping[str, Any]) -> int | None:
    """The context length in tokens, if the config states it."""
    return _first(config, *_CONTEXT)


def no_counts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that should count layers, heads, widths or tokens, but hold no positive integer."""
    names = (*_LAYERS, *_HIDDEN, *_HEADS, *_CONTEXT, "vocab_size")
    given = {name: config[name] for name in names if name in config}
    return {n: v for n, v in given.items() if type(v) is not int or v < 1}


def scores(architecture: str, device: str) -> Scores:
    """Attention scores that training keeps: causal blocks' on a CPU where supported, else none."""
    return "causal" if device == "cpu" and architecture in WITH_BLOCKS else "none"


def shape(config: Mapping[str, Any]) -> ModelShape | None:
    """The sizes that a config.json states; None where it leaves one to a default."""
    layers = _first(config, *_LAYERS)
    hidden = _first(config, *_HIDDEN)
    heads = _first(config, *_HEADS)
    vocabulary = _first(config, "vocab_size")
    plain = config.get("model_type") in _PLAIN
    inside = _first(config, "moe_intermediate_size", "intermediate_size", "n_inner", "ffn_dim")
    widths = config.get("intermediate_size")
    if isinstance(widths, list) and widths:  # one for each layer
        inside = round(sum(widths) / len(widths))
    if inside is None and plain and hidden:
        inside = 4 * hidden
    if not (layers and hidden and heads and vocabulary and inside):
        return None
    return ModelShape(
        layers=layers,
        hidden_size=hidden,
        heads=heads,
        kv_heads=_first(config, "num_key_value_heads") or heads,
        intermediate_size=inside,
        vocabulary=vocabulary,
        context=context(config) or 0,
        gated=not plain,
        tied=bool(config.get("tie_word_embeddings", config.get("model_type") in _TIED)),
        biased=plain,
        experts=_first(config, *_EXPERTS) or 1,
        experts_per_token=_first(config, *_EXPERTS_PER_TOKEN) or 1,
        head_size=_first(config, "head_dim"),
    )


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these fields that holds a number."""
    found = (config.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)
