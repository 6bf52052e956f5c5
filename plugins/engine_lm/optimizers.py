"""AdamW and Muon over a model's named parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine import Context, Optimizers
from engine.modeling import parameter_groups
from engine_lm.muon import Muon as MuonOptimizer
from engine_lm.training_config import AdamW, Muon

Named = tuple[str, Tensor]
_PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_adamw(config: AdamW, context: Context) -> Optimizers:
    """Builds torch's fused AdamW."""

    def make(parameters: Sequence[Named]) -> torch.optim.Optimizer:
        groups = parameter_groups(config, parameters)
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True
        )

    return make


def build_muon(config: Muon, context: Context) -> Optimizers:
    """Builds Muon for the matrices between embedding and head, including stacked experts, and AdamW for
    everything else, such as depthwise convolutions."""

    def kind(name: str, parameter: Tensor) -> dict[str, Any]:
        hidden = _holds_matrices(name, parameter) and not _is_embedding_or_head(name)
        return {"use_muon": hidden, "lr_scale": 1.0 if hidden else config.adamw_lr_scale}

    def make(parameters: Sequence[Named]) -> torch.optim.Optimizer:
        groups = parameter_groups(config, parameters, kind)
        settings = {"momentum": config.momentum, "betas": config.betas, "eps": config.eps}
        return MuonOptimizer(
            [{**settings, "lr": config.lr, **group} for group in groups],
            _PRODUCTS[context.precision],
        )

    return make


def _holds_matrices(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix or a stack of them; experts' biases are a stack of vectors."""
    stack = parameter.ndim == 3 and min(parameter.shape[1:]) > 1
    return (parameter.ndim == 2 or stack) and not name.endswith("bias")


def _is_embedding_or_head(name: str) -> bool:
    parts = ("embed", "wte", "wpe", "lm_head", "score")
    return any(part in name for part in parts)
