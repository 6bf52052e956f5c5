"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_objectives() -> Sequence[Component]:
    """Objectives from preferences, rewards and teachers."""
    return []
