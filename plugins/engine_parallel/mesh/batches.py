"""Pads micro-batches to one shape, which all ranks and pipeline passes must share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine import Batch


def pad(batches: Sequence[Batch], multiple: int) -> tuple[Tensor, Tensor]:
    """``input_ids`` and ``position_ids`` of all micro-batches, padded to one shape ``_NBT``.

    The length becomes a multiple of ``multiple``. Padding is on the right and in rows at the end, so
    that causal attention and the loss ignore it.
    """
    both = [(b.inputs["input_ids"], b.inputs["position_ids"]) for b in batches]
    rows = max(ids.shape[0] for ids, _ in both)
    length = -(-max(ids.shape[1] for ids, _ in both) // multiple) * multiple

    def padded(tensor: Tensor) -> Tensor:
        more = (0, length - tensor.shape[1], 0, rows - tensor.shape[0])
        return torch.nn.functional.pad(tensor, more)

    ids, places = zip(*((padded(i), padded(p)) for i, p in both), strict=True)
    return torch.stack(ids), torch.stack(places)
