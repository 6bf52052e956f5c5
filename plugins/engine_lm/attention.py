"""Causal attention for training, without a T × T mask.

On a GPU in 16 bits, packed rows use torch's variable-length attention. Elsewhere queries are processed
in blocks, each with only the keys that it may see. On a CPU, products of blocks run at full speed,
while torch's scaled-dot-product attention reaches a seventh of it.

Packed rows hold several documents. Position ids restart with each, so query i may see key j if and only
if i − position_i ≤ j ≤ i and, with a sliding window of W, i − W < j.

Shapes: B rows, H heads, K key-value heads, T positions, E head width, N documents.
"""

from __future__ import annotations

from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

from engine.modeling import mark_bounds
from engine_lm.shapes import WITH_BLOCKS

NAME = "engine_blocks"
_BLOCK = 128
_NARROW = (torch.bfloat16, torch.float16)
_GROUPED = "enable_gqa" in signature(varlen_attn).parameters
"""Whether torch (2.12 or later) supports fewer key heads than query heads."""


def use_in_training(model: Any) -> None:
    """Switches a model to this attention, where its architecture allows it.

    Generation and scoring need caches and padding, and switch back to ``sdpa``.
    """
    from transformers import AttentionInterface

    # Without a mask function of this name, transformers neither makes a mask nor searches for
    # documents, which would synchronise with the device.
    AttentionInterface.register(NAME, attention)
    if model.config.model_type in WITH_BLOCKS:
        model.set_attn_implementation(NAME)
        mark_bounds(model)


def attention(
    module: nn.Module,
    query_BHTE: Tensor,
    key_BKTE: Tensor,
    value_BKTE: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    position_ids: Tensor | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal softmax(Q·Kᵀ·scaling)·V within each document; ``_BTHE``, as transformers expects.

    ``cu_seq_lens_q`` ``_N+1`` holds the document boundaries in the concatenated rows; only on devices
    with variable-length kernels.
    """
    if cu_seq_lens_q is not None and _has_kernel(query_BHTE, dropout):
        found = _by_documents(
            query_BHTE, key_BKTE, value_BKTE, cu_seq_lens_q, scaling, sliding_window
        )
    else:
        found = _in_blocks(
            query_BHTE, key_BKTE, value_BKTE, position_ids, scaling, dropout, sliding_window
        )
    return found, None


def _has_kernel(query_BHTE: Tensor, dropout: float) -> bool:
    """Whether torch's variable-length kernel supports this dtype and head width."""
    width = query_BHTE.shape[3]
    return query_BHTE.dtype in _NARROW and width % 8 == 0 and width <= 256 and not dropout


def _by_documents(
    query_BHTE: Tensor,
    key_BKTE: Tensor,
    value_BKTE: Tensor,
    bounds: Tensor,
    scaling: float,
    window: int | None,
) -> Tensor:
    length, groups = query_BHTE.shape[2], query_BHTE.shape[1] // key_BKTE.shape[1]
    more: dict[str, Any] = {"enable_gqa": groups > 1} if _GROUPED else {}
    if groups > 1 and not _GROUPED:
        key_BKTE, value_BKTE = (x.repeat_interleave(groups, 1) for x in (key_BKTE, value_BKTE))
    query, key, value = (
        x.transpose(1, 2).flatten(0, 1) for x in (query_BHTE, key_BKTE, value_BKTE)
    )
    keys = (-1 if window is None else window - 1, 0)
    found = varlen_attn(
        query, key, value, bounds, bounds, length, length, scale=scaling, window_size=keys, **more
    )
    rows: Tensor = cast("Tensor", found).unflatten(0, (-1, length))
    return rows


def _in_blocks(
    query_BHTE: Tensor,
    key_BKTE: Tensor,
    value_BKTE: Tensor,
    position_ids: Tensor | None,
    scaling: float,
    dropout: float,
    window: int | None,
) -> Tensor:
    groups = query_BHTE.shape[1] // key_BKTE.shape[1]
    if groups > 1:
        key_BKTE = key_BKTE.repeat_interleave(groups, 1)
        value_BKTE = value_BKTE.repeat_interleave(groups, 1)
    # Makes the first keys of all heads a view; else each block would keep a copy.
    key_BKTE, value_BKTE = key_BKTE.contiguous(), value_BKTE.contiguous()
    length = query_BHTE.shape[2]
    place_T = torch.arange(length, device=query_BHTE.device)
    first_BT = place_T - (place_T[None] if position_ids is None else position_ids)
    if window is not None:
        first_BT = torch.maximum(first_BT, place_T - window + 1)
    query_BHTE = query_BHTE * scaling
    wide = torch.promote_types(query_BHTE.dtype, torch.float32)
    blocks = []
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        begin = 0 if window is None else max(0, start - window + 1)
        keys = slice(begin, end)
        scores = (query_BHTE[:, :, start:end] @ key_BKTE[:, :, keys].mT).to(wide)
        seen = (place_T[None, None, keys] <= place_T[None, start:end, None]) & (
            place_T[None, None, keys] >= first_BT[:, start:end, None]
        )
        scores = scores.masked_fill(~seen[:, None], -torch.inf)
        weights = scores.softmax(-1)
        if dropout:
            weights = nn.functional.dropout(weights, dropout)
        blocks.append(weights.to(value_BKTE.dtype) @ value_BKTE[:, :, keys])
    return torch.cat(blocks, 2).transpose(1, 2).contiguous()
