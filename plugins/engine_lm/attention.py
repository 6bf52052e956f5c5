"""Causal attention for training on a CPU, in blocks of queries.

torch's CPU kernel for scaled-dot-product attention runs at a seventh of the matrix products' peak,
and a mask makes it read a matrix of T × T. Here each block of queries meets only the keys up to
its end, so nothing above the diagonal is computed, as plain products that run at full speed.

Packed rows hold several documents. Position ids restart with each, so query i may see key j just
where i − position_i ≤ j ≤ i: no mask is ever built outside.

Shapes: B rows, H heads, K heads of keys, T positions, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine_lm.shapes import WITH_BLOCKS

NAME = "engine_blocks"
_BLOCK = 128


def use_in_training(model: Any) -> None:
    """Switches a model to this attention where it applies: on a CPU, where the model allows.

    Generation and scoring, which need caches and padding, set ``sdpa`` again.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    if next(model.parameters()).device.type == "cpu" and _uses_interface(model):
        model.set_attn_implementation(NAME)


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
    **_: Any,
) -> tuple[Tensor, None]:
    """softmax(Q·Kᵀ·scaling)·V within each document, causally; ``_BTHE`` as transformers wants it."""
    groups = query_BHTE.shape[1] // key_BKTE.shape[1]
    if groups > 1:
        key_BKTE = key_BKTE.repeat_interleave(groups, 1)
        value_BKTE = value_BKTE.repeat_interleave(groups, 1)
    # So that the first keys of all heads are a view; else each block keeps a copy of them.
    key_BKTE, value_BKTE = key_BKTE.contiguous(), value_BKTE.contiguous()
    length = query_BHTE.shape[2]
    place_T = torch.arange(length, device=query_BHTE.device)
    first_BT = place_T - (place_T[None] if position_ids is None else position_ids)
    query_BHTE = query_BHTE * scaling
    wide = torch.promote_types(query_BHTE.dtype, torch.float32)
    blocks = []
    for start in range(0, length, _BLOCK):
        end = min(start + _BLOCK, length)
        scores = (query_BHTE[:, :, start:end] @ key_BKTE[:, :, :end].mT).to(wide)
        seen = (place_T[None, None, :end] <= place_T[None, start:end, None]) & (
            place_T[None, None, :end] >= first_BT[:, start:end, None]
        )
        scores = scores.masked_fill(~seen[:, None], -torch.inf)
        weights = scores.softmax(-1)
        if dropout:
            weights = nn.functional.dropout(weights, dropout)
        blocks.append(weights.to(value_BKTE.dtype) @ value_BKTE[:, :, :end])
    return torch.cat(blocks, 2).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Position ids say it all."""


def _uses_interface(model: Any) -> bool:
    """Whether the model's attention goes through transformers' interface, with position ids."""
    return model.config.model_type in WITH_BLOCKS
