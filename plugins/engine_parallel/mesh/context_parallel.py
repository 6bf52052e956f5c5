"""Context parallelism: each rank's queries attend to the keys and values of whole rows.

Rank r has the r-th part of each row. An all-gather brings keys and values from all ranks, and a
reduce-scatter returns their gradients. Unlike in Ulysses, the number of heads is no limit.

Shapes: B rows, H heads, K key-value heads, T positions of this rank, S of the whole row, E head width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from engine_parallel.mesh.grid import Grid, gathered

_NAME = "engine_context"
_PLACES: ContextVar[Tensor] = ContextVar("places")


def share_rows(model: Any, grid: Grid) -> None:
    """Switches the model to this attention, with masks for this rank's part of each row."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    mesh = grid.degrees["context"]
    eager = model.config._attn_implementation == "eager"

    def attention(
        module: nn.Module,
        query_BHTE: Tensor,
        key_BKTE: Tensor,
        value_BKTE: Tensor,
        attention_mask: Tensor,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """transformers' attention of this rank's queries over the keys of whole rows, ``_BTHE``."""
        key_BKSE, value_BKSE = (gathered(part, mesh, 2) for part in (key_BKTE, value_BKTE))
        compute = sdpa_attention_forward
        if eager:  # the architecture's own, with what sdpa has not, such as capped scores
            compute = sys.modules[type(module).__module__].eager_attention_forward
            least = torch.finfo(query_BHTE.dtype).min
            attention_mask = torch.where(attention_mask, 0.0, least).to(query_BHTE.dtype)
        out, _ = compute(module, query_BHTE, key_BKSE, value_BKSE, attention_mask, **options)
        return out, None

    AttentionInterface.register(_NAME, attention)
    AttentionMaskInterface.register(_NAME, _mask_of(grid.place("context")))
    model.set_attn_implementation(_NAME)


@contextmanager
def of_rows(place_BS: Tensor) -> Iterator[None]:
    """Makes masks for whole rows whose tokens have these positions in their documents."""
    token = _PLACES.set(place_BS)
    try:
        yield
    finally:
        _PLACES.reset(token)


def _mask_of(rank: int) -> Callable[..., Tensor]:
    """A function that makes transformers' masks ``_B1TS`` for the queries of one rank."""
    from transformers.masking_utils import (
        find_packed_sequence_indices,
        packed_sequence_compatibility_function,
        sdpa_mask,
    )

    def mask(q_length: int, mask_function: Any, device: torch.device, **options: Any) -> Tensor:
        """``mask_function`` depends on the layer: causal, sliding window, or chunked."""
        place_BS = _PLACES.get()
        document_BS = find_packed_sequence_indices(place_BS)
        if document_BS is not None:
            mask_function = packed_sequence_compatibility_function(
                mask_function, place_BS, document_BS
            )
        made: Tensor | None = sdpa_mask(
            batch_size=place_BS.shape[0],
            q_length=q_length,
            kv_length=place_BS.shape[1],
            q_offset=rank * q_length,
            mask_function=mask_function,
            allow_is_causal_skip=False,
            use_vmap=options["use_vmap"],
            device=device,
        )
        assert made is not None  # as allow_is_causal_skip is false
        return made

    return mask
