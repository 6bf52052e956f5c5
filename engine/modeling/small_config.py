"""A small copy of a transformers config that keeps its architecture.

Depth, layer types, ratios of heads, scalings and experts stay; widths, vocabulary and windows become
small, so that a forward pass takes milliseconds and some twenty tokens are longer than any window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

HEAD_WIDTH = 16
WINDOW = 4
"""Positions, or keys that are selected, which a query may see."""
_ORIGINAL_POSITIONS = 8
"""Original context of scaled rotary embeddings, short enough to be exceeded; context lengths stay."""

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "kv_n_heads")
_HIDDEN = (
    "hidden_size",
    "n_embd",
    "d_model",
    "word_embed_proj_dim",
    "embedding_dim",
    "lru_width",
    "hidden_size_global",
)
_HEAD_WIDTHS = (
    "attention_head_size",
    "v_head_dim",
    "qk_head_dim",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "mamba_d_head",
    "mamba_headdim",
    "mamba_head_dim",
)
_EXPANSIONS = ("expand", "mamba_expand")
_EXPANDED_HEADS = ("num_heads", "n_mamba_heads", "mamba_n_heads", "mamba_num_heads")
"""Heads of state-space layers: they divide the expanded width, and their groups the heads."""
_GROUPS = ("n_groups", "mamba_n_groups", "mamba_ngroups")
_FEED_FORWARD = re.compile(
    r".*(intermediate_size|ffn_dim|ffn_hidden_size|n_inner|intermediate_size_mlp)"
)
_EXPERTS = re.compile(r"moe|expert")
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
    described = config.to_dict()
    small = type(config).from_dict(_shrunk(described, _widths(described, parts)))
    small._attn_implementation = config._attn_implementation
    return small


def _widths(described: Mapping[str, Any], parts: int) -> dict[str, int]:
    """Small sizes by name; none where the model is small already."""
    numbers = dict(reversed(list(_numbers(described))))  # of several of a name, the first
    hidden, heads, kv_heads = (_first(numbers, names) for names in (_HIDDEN, _HEADS, _KV_HEADS))
    few, kv_few = _head_counts(heads, kv_heads, parts)
    width = few * HEAD_WIDTH
    if hidden is None or hidden <= width:
        return {}
    rotary = numbers.get("qk_rope_head_dim", math.inf)
    whole = 2 if numbers.get("head_dim", 0) > rotary else 1  # with the part that is not rotated
    own = numbers.get("attention_hidden_size", hidden) // hidden
    expansion = int(_first(numbers, _EXPANSIONS) or 1)
    feed_forward = [n for n, size in numbers.items() if _FEED_FORWARD.fullmatch(n) and size]
    of_experts = (n for n in feed_forward if _EXPERTS.search(n))
    return {
        **dict.fromkeys((n for n in numbers if _RANKS.fullmatch(n)), HEAD_WIDTH),
        **dict.fromkeys(feed_forward, HEAD_WIDTH * parts),
        **dict.fromkeys(of_experts, HEAD_WIDTH * parts // 2),
        **dict.fromkeys((n for n in numbers if n.startswith("vocab_size")), 32 * parts),
        **dict.fromkeys(_HIDDEN, width),
        **dict.fromkeys(_HEADS, few),
        **dict.fromkeys(_KV_HEADS, kv_few),
        **dict.fromkeys(_EXPANDED_HEADS, few * expansion),
        **dict.fromkeys(_GROUPS, 1),
        **dict.fromkeys(_HEAD_WIDTHS, HEAD_WIDTH),
        "head_dim": HEAD_WIDTH * whole,
        "qk_head_dim": 2 * HEAD_WIDTH,
        "index_head_dim": 2 * HEAD_WIDTH,
        "attention_hidden_size": width * own,
        "attention_head_dim": HEAD_WIDTH * own,
        "mamba_d_ssm": width * expansion,
    }


def _head_counts(heads: int | None, kv_heads: int | None, parts: int) -> tuple[int, int]:
    """Few heads, and heads of keys: as many, half as many, or one, as in the whole model.

    Some code cuts its heads of keys into two. Code that does not know such heads may cut into four.
    """
    if kv_heads is None:
        return math.lcm(4, parts), math.lcm(4, parts)
    few = math.lcm(2, parts)
    if kv_heads in (1, heads):
        return few, 1 if kv_heads == 1 else few
    return 2 * few, few


def _shrunk(described: Mapping[str, Any], widths: Mapping[str, int]) -> dict[str, Any]:
    """A config's fields, and those of configs in it, made smaller."""
    return {name: _smaller(name, value, described, widths) for name, value in described.items()}


def _smaller(name: str, value: Any, described: Mapping[str, Any], widths: Mapping[str, int]) -> Any:
    if isinstance(value, Mapping):
        return _shrunk(value, widths)
    if isinstance(value, list):
        return _shorter(name, value, described, widths)
    if not _is_number(value):
        return value
    if name in widths:
        return widths[name]
    if name.endswith("_token_id"):
        return min(value, widths.get("vocab_size", value + 1) - 1)
    if _WINDOWS.fullmatch(name):
        return min(value, WINDOW)
    if name == "original_max_position_embeddings":
        return min(value, _ORIGINAL_POSITIONS)
    if name == "rotary_dim" and widths:
        return min(value, HEAD_WIDTH)
    return type(value)(0) if _DRAWN.fullmatch(name) else value


def _shorter(
    name: str, values: list[Any], described: Mapping[str, Any], widths: Mapping[str, int]
) -> list[Any]:
    """Of rotary factors, one for each pair of a head's elements; of widths, those of parts of a small
    hidden state."""
    if not widths:
        return values
    if name.endswith("_factor"):
        return values[: int(HEAD_WIDTH * described.get("partial_rotary_factor", 1.0)) // 2]
    whole = all(type(size) is int for size in values)
    if whole and len(values) > 1 and sum(values) == _first(described, _HIDDEN):
        return [widths["hidden_size"] // len(values)] * len(values)
    return values


def _numbers(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All numbers with their names, those of the config before those of configs in it."""
    for name, value in described.items():
        if _is_number(value):
            yield name, value
    for value in described.values():
        if isinstance(value, Mapping):
            yield from _numbers(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first(numbers: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    found = (numbers.get(name) for name in names)
    return next((value for value in found if isinstance(value, int)), None)
