"""Dtypes of a model's weights: float32 for all that learn, whatever the dtype of their file."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NARROW = (torch.bfloat16, torch.float16)


def for_training(model: nn.Module, precision: str) -> None:
    """Converts weights that learn to float32, so that small updates are not rounded away.

    A frozen weight gets the dtype of ``precision`` if that represents it exactly, as when its file has
    this dtype, else float32; strategies cast it to compute with.
    """
    narrow = TYPES.get(precision, torch.float32)
    for parameter in model.parameters():
        parameter.data = _wide(parameter.data)
        if not parameter.requires_grad and _holds(narrow, parameter.data):
            parameter.data = parameter.data.to(narrow)


def for_scoring(model: nn.Module) -> None:
    """Casts a model to bf16 or fp16 if that represents every weight exactly, as its file's dtype."""
    for narrow in _NARROW:
        if all(_holds(narrow, parameter.data) for parameter in model.parameters()):
            for parameter in model.parameters():
                parameter.data = parameter.data.to(narrow)
            return


def _wide(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype in _NARROW else weight


def _holds(narrow: torch.dtype, weight: Tensor) -> bool:
    return torch.equal(weight.to(narrow).to(weight.dtype), weight)
