"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_inference() -> Sequence[Component]:
    """The engine's own inference."""
    return [
        Component(
            "shared-prefixes",
            "engine_inference.config:SharedPrefixes",
            "engine_inference.language_model:build",
            "Computes shared prefixes once, and generates many texts at a time.",
            default=True,
        )
    ]
