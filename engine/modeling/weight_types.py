"""Dtypes of a model's weights: float32 for all that learn, whatever the dtype of their file."""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.errors import SpecError
from engine.modeling.heads import backbone
from engine.modeling.small_model import small_copy

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NARROW = (torch.bfloat16, torch.float16)
_OF_TYPES = re.compile("dtype|scalar type")
_LENGTH = 20
"""Tokens of a text that is longer than the windows and chunks of a small copy."""


def for_training(model: nn.Module, precision: str) -> None:
    """Converts weights that learn to float32, so that small updates are not rounded away.

    A frozen weight gets the dtype of ``precision`` if that represents it exactly, as when its file has
    this dtype, else float32; strategies cast it to compute with. Raises SpecError for an architecture
    whose own code cannot compute in ``precision``.
    """
    narrow = TYPES.get(precision, torch.float32)
    if narrow in _NARROW and (wrong := _fit_buffers(model, narrow)):
        kind = cast("Any", model).config.model_type
        raise SpecError(
            f"precision: the code of '{kind}' mixes {precision} with fp32 ({wrong})",
            hint="use precision: fp32",
        )
    for parameter in model.parameters():
        parameter.data = _wide(parameter.data)
        if not parameter.requires_grad and _holds(narrow, parameter.data):
            parameter.data = parameter.data.to(narrow)


def for_scoring(model: nn.Module) -> None:
    """Casts a model to bf16 or fp16 if that represents every weight exactly, as its file's dtype, and
    its code can compute in it."""
    for narrow in _NARROW:
        if all(_holds(narrow, parameter.data) for parameter in model.parameters()):
            if _fit_buffers(model, narrow) is None:
                for parameter in model.parameters():
                    parameter.data = parameter.data.to(narrow)
            return


def _fit_buffers(model: nn.Module, narrow: torch.dtype) -> str | None:
    """Casts the buffers that transformers itself builds narrow, where the model's code needs it.

    Returns what torch says of types that do not go together even so. Tried on a small copy.
    """
    try:
        with torch.random.fork_rng([]):
            small = small_copy(model)
    except Exception:  # a model's code may raise anything for sizes that it was not made for
        return None
    for parameter in small.parameters():
        parameter.data = parameter.data.to(narrow)
    wrong = _mixed_types(small)
    if wrong is None:
        return None
    names = [n for n, buffer in _built(small, narrow).named_buffers() if buffer.dtype == narrow]
    for name in names:
        small.get_buffer(name).data = small.get_buffer(name).to(narrow)
    wrong = _mixed_types(small)
    for name in names if wrong is None else ():
        model.get_buffer(name).data = model.get_buffer(name).to(narrow)
    return wrong


def _built(small: Any, narrow: torch.dtype) -> nn.Module:
    """Another one of it, as transformers builds it in this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(narrow)
    try:
        with torch.random.fork_rng([]):
            return cast("nn.Module", type(small)(small.config))
    finally:
        torch.set_default_dtype(before)


def _mixed_types(small: nn.Module) -> str | None:
    """What torch says of two types that do not go together, forward or backward."""
    try:
        ids = torch.arange(_LENGTH)[None] % int(cast("Any", small).config.vocab_size)
        with torch.enable_grad(), torch.random.fork_rng([]):
            read = backbone(small)(input_ids=ids, use_cache=False).last_hidden_state
            read.sum().backward()
    except RuntimeError as error:
        return str(error) if _OF_TYPES.search(str(error)) else None
    return None


def _wide(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype in _NARROW else weight


def _holds(narrow: torch.dtype, weight: Tensor) -> bool:
    return torch.equal(weight.to(narrow).to(weight.dtype), weight)
