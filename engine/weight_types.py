"""The types that hold a model's weights: float32 for all that learns, whatever a file holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NARROW = (torch.bfloat16, torch.float16)


def for_training(model: nn.Module, precision: str) -> None:
    """Gives every weight that learns as float32, so that small updates are not rounded away.

    A frozen one is kept in the type of the stage's ``precision`` where that holds it exactly, as it
    does what a file held in this type, and else in float32 too: strategies narrow it to compute with.
    """
    narrow = TYPES.get(precision, torch.float32)
    for parameter in model.parameters():
        parameter.data = _wide(parameter.data)
        if not parameter.requires_grad and _holds(narrow, parameter.data):
            parameter.data = parameter.data.to(narrow)


def for_scoring(model: nn.Module) -> None:
    """Narrows a model whose every weight a narrow type holds exactly: it was kept in that type."""
    for narrow in _NARROW:
        if all(_holds(narrow, parameter.data) for parameter in model.parameters()):
            for parameter in model.parameters():
                parameter.data = parameter.data.to(narrow)
            return


def _wide(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype in _NARROW else weight


def _holds(narrow: torch.dtype, weight: Tensor) -> bool:
    return torch.equal(weight.to(narrow).to(weight.dtype), weight)
