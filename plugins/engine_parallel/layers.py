"""Finding a model's layers, and compiling them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def stack(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: its longest list of modules."""
    lists = [
        list(m.values()) if isinstance(m, nn.ModuleDict) else list(m)
        for m in module.modules()
        if isinstance(m, nn.ModuleList | nn.ModuleDict)
    ]
    return max(lists, key=len, default=[])


def compile_layers(layers: Sequence[nn.Module]) -> None:
    """One by one: they share one compiled graph, so it takes seconds and not minutes."""
    for layer in layers:
        layer.compile(dynamic=False)
