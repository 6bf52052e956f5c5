"""Which blocks of a layer tensor parallelism splits, by transformers' plan for the architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

_SPLITTING = {
    "colwise",
    "rowwise",
    "colwise_gather_output",
    "rowwise_split_input",
    "replicated_with_grad_allreduce",
}
"""Styles of transformers' plans that can be carried out here."""


def tensor_styles(block: str, module: nn.Module, config: Any) -> dict[str, str]:
    """The planned style of each split module of a layer's ``block``, by its name within the layer.

    Empty if the plan of the model's ``config`` leaves the block out or names a style that cannot be
    carried out: every rank then computes the block.
    """
    own = {f"{block}.{name}" for name, _ in module.named_modules()}
    planned = {name: style for name, style in _inside(config).items() if name in own}
    return planned if set(planned.values()) <= _SPLITTING else {}


def holds_experts(module: nn.Module) -> bool:
    """Whether a module stacks experts as in transformers: each parameter has a matrix or bias for each
    expert."""
    count, own = getattr(module, "num_experts", None), list(module.parameters(recurse=False))
    each = all(p.dim() > 1 and p.shape[0] == count for p in own)
    return count is not None and each and any(p.dim() == 3 for p in own)


def _inside(config: Any) -> Mapping[str, str]:
    """Styles by the names of modules within a layer."""
    given = getattr(config, "base_model_tp_plan", None) or {}
    found = {re.fullmatch(r"layers\.\*\.(.+)", name): style for name, style in given.items()}
    return {inside[1]: style for inside, style in found.items() if inside}
