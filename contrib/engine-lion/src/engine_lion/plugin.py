"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_optimizers() -> Sequence[Component]:
    """Lion."""
    return [
        Component(
            "lion",
            "engine_lion.config:Lion",
            "engine_lion.optimizer:build",
            "Lion: the sign of a momentum; half the state of AdamW.",
        )
    ]
