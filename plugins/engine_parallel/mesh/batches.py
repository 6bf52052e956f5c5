"""Pads micro-batches to one shape, which all ranks and pipeline passes must share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine import Batch
from engine.modeling import document_rows


def rows(batches: Sequence[Batch], multiple: int, *, packed: bool) -> tuple[Tensor, Tensor]:
    """``input_ids`` and ``position_ids`` of all micro-batches, padded to one shape ``_NBT``.

    Unless ``packed``, rows have one document each. The length becomes a multiple of ``multiple``.
    Padding is on the right and in rows at the end, so that causal attention and the loss ignore it.
    """
    both = [(b.inputs["input_ids"], b.inputs["position_ids"]) for b in batches]
    if not packed:
        apart = [document_rows(ids, places)[0] for ids, places in both]
        both = [(ids, torch.arange(ids.shape[1]).to(ids).expand_as(ids)) for ids in apart]
    most = max(ids.shape[0] for ids, _ in both)
    length = -(-max(ids.shape[1] for ids, _ in both) // multiple) * multiple

    def padded(tensor: Tensor) -> Tensor:
        more = (0, length - tensor.shape[1], 0, most - tensor.shape[0])
        return torch.nn.functional.pad(tensor, more)

    ids, places = zip(*((padded(i), padded(p)) for i, p in both), strict=True)
    return torch.stack(ids), torch.stack(places)
