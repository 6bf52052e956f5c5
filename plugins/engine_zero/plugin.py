"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_strategies() -> Sequence[Component]:
    """Data parallelism that shards optimizer state, gradients and weights."""
    return [
        Component(
            "zero",
            "engine_zero.config:Zero",
            "engine_zero.zero:build",
            "Data parallelism with sharded training state (DeepSpeed ZeRO 1, 2 and 3).",
            extra="zero",
        )
    ]
