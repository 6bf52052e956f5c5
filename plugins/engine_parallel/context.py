"""Attention where ranks share rows: own queries, everybody's keys and values.

Rank r has the r-th part of each row. Keys and values are gathered from all; backwards their
gradients are summed and parted, so that each rank gets those of its own. Fewer heads than with
Ulysses' exchange is no limit, and it runs wherever an all-gather does.

Shapes: B rows, H heads, K heads of keys, T positions of this rank, S of the whole row, E width of a
head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine_parallel.grid import Grid, gathered

_NAME = "engine_context"


def share_rows(model: Any, grid: Grid) -> None:
    """Switches the model to this attention."""
    from transformers import AttentionInterface

    mesh = grid.degrees["context"]
    rank = grid.place("context")

    def attention(
        module: nn.Module,
        query_BHTE: Tensor,
        key_BKTE: Tensor,
        value_BKTE: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        whole_position_ids: Tensor,
        dropout: float = 0.0,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """softmax(Q·Kᵀ·scaling)·V within each document, causally; ``_BTHE``."""
        key_BKSE, value_BKSE = (gathered(part, mesh, 2) for part in (key_BKTE, value_BKTE))
        length, start = query_BHTE.shape[2], rank * query_BHTE.shape[2]
        place_S = torch.arange(key_BKSE.shape[2], device=query_BHTE.device)
        first_BS = place_S - whole_position_ids  # where each position's document begins
        own = slice(start, start + length)
        seen_BTS = (place_S <= place_S[own, None]) & (place_S >= first_BS[:, own, None])
        out_BHTE = nn.functional.scaled_dot_product_attention(
            query_BHTE,
            key_BKSE,
            value_BKSE,
            attn_mask=seen_BTS[:, None],
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query_BHTE.shape[1] != key_BKSE.shape[1],
        )
        return out_BHTE.transpose(1, 2).contiguous(), None

    AttentionInterface.register(_NAME, attention)
    model.set_attn_implementation(_NAME)
