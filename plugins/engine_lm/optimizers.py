"""AdamW and Muon over a model's named parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from engine import Context, OptimizerConfig, Optimizers
from engine_lm.config import AdamW, Muon
from engine_lm.muon import Muon as MuonOptimizer

Named = tuple[str, Tensor]


def build_adamw(config: AdamW, context: Context) -> Optimizers:
    """torch's fused AdamW."""

    def make(parameters: Sequence[Named]) -> torch.optim.Optimizer:
        groups = _groups(config, parameters, lambda name, p: {})
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True
        )

    return make


def build_muon(config: Muon, context: Context) -> Optimizers:
    """Muon on the matrices between embedding and head, AdamW on everything else."""

    def kind(name: str, parameter: Tensor) -> dict[str, Any]:
        hidden = parameter.ndim == 2 and not _is_embedding_or_head(name)
        return {"use_muon": hidden, "lr_scale": 1.0 if hidden else config.adamw_lr_scale}

    def make(parameters: Sequence[Named]) -> torch.optim.Optimizer:
        groups = _groups(config, parameters, kind)
        settings = {"momentum": config.momentum, "betas": config.betas, "eps": config.eps}
        return MuonOptimizer([{**settings, "lr": config.lr, **group} for group in groups])

    return make


def _groups(
    config: OptimizerConfig,
    parameters: Sequence[Named],
    kind: Callable[[str, Tensor], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Parameters that are treated alike; vectors (norms, biases) do not decay."""
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters:
        own = next((g for g in config.groups if fnmatchcase(name, g.match)), None)
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        settings = {"lr_scale": 1.0, "weight_decay": decay, **kind(name, parameter)}
        if own is not None:
            settings["lr_scale"] *= own.lr_scale
            if own.weight_decay is not None:
                settings["weight_decay"] = own.weight_decay
        groups.setdefault(repr(settings), {**settings, "params": []})["params"].append(parameter)
    return list(groups.values())


def _is_embedding_or_head(name: str) -> bool:
    parts = ("embed", "wte", "wpe", "lm_head", "score")
    return any(part in name for part in parts)
