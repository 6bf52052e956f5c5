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
    masks = _Masks(grid.place("context"))

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
        out_BHTE = nn.functional.scaled_dot_product_attention(
            query_BHTE,
            key_BKSE,
            value_BKSE,
            attn_mask=masks.of(query_BHTE, whole_position_ids)[:, None],
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query_BHTE.shape[1] != key_BKSE.shape[1],
        )
        return out_BHTE.transpose(1, 2).contiguous(), None

    AttentionInterface.register(_NAME, attention)
    model.set_attn_implementation(_NAME)


class _Masks:
    """0 where a position of this rank sees another, -inf elsewhere: made once for all layers."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._last: tuple[Tensor, Tensor] | None = None

    def of(self, query_BHTE: Tensor, place_BS: Tensor) -> Tensor:
        """``_BTS``, by the positions of whole rows in their documents."""
        if self._last is None or self._last[0] is not place_BS:
            length = query_BHTE.shape[2]
            own = slice(self._rank * length, (self._rank + 1) * length)
            at_S = torch.arange(place_BS.shape[1], device=place_BS.device)
            first_BS = at_S - place_BS  # where each position's document begins
            seen_BTS = (at_S <= at_S[own, None]) & (at_S >= first_BS[:, own, None])
            mask_BTS = query_BHTE.new_zeros(seen_BTS.shape).masked_fill_(~seen_BTS, -torch.inf)
            self._last = place_BS, mask_BTS
        return self._last[1]
