"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Architecture, Component, hookimpl


@hookimpl
def engine_architectures() -> Sequence[Architecture]:
    """The classes that open a trained model again."""
    return [
        Architecture(
            model_type="linear_hybrid",
            config="engine_hybrid.architecture:HybridConfig",
            model="engine_hybrid.architecture:HybridForCausalLM",
            backbone="engine_hybrid.architecture:HybridModel",
            scalar="engine_hybrid.architecture:HybridForSequenceClassification",
        )
    ]


@hookimpl
def engine_models() -> Sequence[Component]:
    """A new hybrid by its sizes."""
    return [
        Component(
            "hybrid",
            "engine_hybrid.config:Hybrid",
            "engine_hybrid.build:build",
            "Layers of gated linear attention, and full attention in every fourth.",
        )
    ]
