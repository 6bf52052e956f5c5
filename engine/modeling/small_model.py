"""A small copy of a model's architecture, on which what depends on long rows can be tried at once.

A row of some twenty tokens is longer than its windows, chunks and numbers of selected keys.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from engine.modeling.heads import mark_packing, reads_packed
from engine.modeling.small_config import shrunk_config


def small_copy(model: nn.Module, *, parts: int = 1) -> Any:
    """A model of the same class, with drawn weights and heads and widths divisible by ``parts``.

    It attends as ``model`` does, and is marked alike as one that reads packed documents. The copy may
    fail to build, with whatever its class raises. Draws from torch's default generator.
    """
    whole = cast("Any", model)
    small = type(whole)(shrunk_config(whole.config, parts=parts))
    small.set_attn_implementation(whole.config._attn_implementation)
    mark_packing(small, packs=reads_packed(model))
    _draw(small)
    return small


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Draws weights that make every part matter: products have unit variance, vectors stay near their
    initial values."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() < 2:
            parameter.add_(0.1 * noise)
        elif id(parameter) in embeddings:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
