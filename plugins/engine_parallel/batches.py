"""Micro-batches on their device, and in one shape where ranks or passes must agree on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engine import Batch, Setup


def placed(batch: Batch, device: torch.device, setup: Setup) -> Batch:
    """The batch on the device, with what frozen models say of it."""

    def place(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {k: v.to(device, non_blocking=True) for k, v in tensors.items()}

    moved = Batch(place(batch.inputs), place(batch.targets), batch.counts, batch.tokens)
    with torch.no_grad():
        return setup.objective.annotate(moved, setup.frozen)


def pad(batches: Sequence[Batch], multiple: int) -> tuple[Tensor, Tensor]:
    """``input_ids`` and ``position_ids`` of all micro-batches, each padded to one shape ``_NBT``.

    Padding is on the right and below: causal attention keeps it out, and the loss leaves it out.
    """
    both = [(b.inputs["input_ids"], b.inputs["position_ids"]) for b in batches]
    rows = max(ids.shape[0] for ids, _ in both)
    length = -(-max(ids.shape[1] for ids, _ in both) // multiple) * multiple

    def padded(tensor: Tensor) -> Tensor:
        more = (0, length - tensor.shape[1], 0, rows - tensor.shape[0])
        return torch.nn.functional.pad(tensor, more)

    ids, places = zip(*((padded(i), padded(p)) for i, p in both), strict=True)
    return torch.stack(ids), torch.stack(places)
