"""A small copy of a transformers config that keeps its architecture.

Depth, layer types, ratios of heads, scalings and experts stay; widths, vocabulary and windows become
small, so that a forward pass takes milliseconds and some twenty tokens are longer than any window.
"""

from __future__ import annotations

import copy
import re
from typing import Any

HEAD_WIDTH = 16
WINDOW = 4
"""Positions, or keys that are selected, which a query may see."""
_ORIGINAL_POSITIONS = 8
"""Original context of scaled rotary embeddings, short enough to be exceeded; context lengths stay."""

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_dim")
_HEAD_WIDTHS = (
    "head_dim",
    "attention_head_size",
    "v_head_dim",
    "qk_head_dim",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
)
_FEED_FORWARD = re.compile(
    r".*(intermediate_size|ffn_dim|ffn_hidden_size|n_inner|intermediate_size_mlp)"
)
_RANKS = re.compile(r"\w+_\w+_rank")
_WINDOWS = re.compile(
    r"(sliding_window|window_size|attention_chunk_size|sliding_window_size|local_attention|index_topk"
    r"|\w+_attn_chunk_length)"
)
_DRAWN = re.compile(r".*(dropout|pdrop|layerdrop|drop_path|jitter).*")


def shrunk_config(config: Any, *, parts: int = 1) -> Any:
    """The small copy, with heads and widths divisible by ``parts`` and without dropout.

    A config that is small already keeps its widths. The copy is not checked: building a model of it may
    fail.
    """
    small = copy.deepcopy(config)
    heads, kv_heads = _first(config, _HEADS), _first(config, _KV_HEADS)
    hidden = _first(config, _HIDDEN)
    few = parts if kv_heads is None or kv_heads == heads else 2 * parts
    if hidden is not None and heads is not None and hidden > few * HEAD_WIDTH:
        kv_few = kv_heads if kv_heads in (None, 1) else parts
        # Its heads divide the expanded width, and its groups the heads.
        mamba2 = {"num_heads": few * int(getattr(config, "expand", 1)), "n_groups": 1}
        widths = {
            **dict.fromkeys(_HIDDEN, few * HEAD_WIDTH),
            **dict.fromkeys(_HEADS, few),
            **dict.fromkeys(_KV_HEADS, kv_few),
            **mamba2,
            **dict.fromkeys(_HEAD_WIDTHS, HEAD_WIDTH),
            "qk_head_dim": 2 * HEAD_WIDTH,
            "index_head_dim": 2 * HEAD_WIDTH,
            "vocab_size": 32 * parts,
        }
        for name, value in _numbers(config):
            if name in widths:
                setattr(small, name, widths[name])
            elif _FEED_FORWARD.fullmatch(name) and value:
                setattr(small, name, HEAD_WIDTH * parts)
            elif _RANKS.fullmatch(name):
                setattr(small, name, HEAD_WIDTH)
        for name, value in config.to_dict().items():
            if isinstance(value, list) and len(value) > 1 and _total(value) == hidden:
                setattr(small, name, [few * HEAD_WIDTH // len(value)] * len(value))
        _shrink_rotary(small)
    for name, value in _numbers(config):
        if name.endswith("_token_id"):
            setattr(small, name, min(value, small.vocab_size - 1))
        elif _WINDOWS.fullmatch(name):
            setattr(small, name, min(value, WINDOW))
        elif name == "original_max_position_embeddings":
            setattr(small, name, min(value, _ORIGINAL_POSITIONS))
        elif _DRAWN.fullmatch(name):
            setattr(small, name, 0.0)
    return small


def _shrink_rotary(small: Any) -> None:
    """Cuts lists of rotary factors to one for each pair of a head's elements."""
    rotary = getattr(small, "rope_parameters", None)
    if not isinstance(rotary, dict):
        return
    for part in (rotary, *(p for p in rotary.values() if isinstance(p, dict))):
        pairs = int(HEAD_WIDTH * part.get("partial_rotary_factor", 1.0)) // 2
        for name, value in list(part.items()):
            if isinstance(value, list) and name.endswith("_factor"):
                part[name] = value[:pairs]
            elif name == "original_max_position_embeddings":
                part[name] = _ORIGINAL_POSITIONS


def _total(values: list[Any]) -> int | None:
    """The sum of whole numbers, such as the widths of parts of a hidden state."""
    return sum(values) if all(type(v) is int for v in values) else None


def _numbers(config: Any) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in config.to_dict().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), None)
