"""Callbacks of a train stage, and the actions that they can request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Stop:
    """Request to end the stage now and count it as done."""

    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Request to go back to the last checkpoint and exclude the data of the last ``steps`` steps."""

    reason: str
    steps: int


class Callback:
    """Monitors and steers a train stage: override what you need. Its state is part of the checkpoint.

    A step is skipped if the gradient norm exceeds ``spike_limit``, or, for a model trained beside the
    stage's own, its limit in ``spike_limits``.
    """

    spike_limit: float = float("inf")
    spike_limits: Mapping[str, float] = MappingProxyType({})

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Called on every rank before the first step."""

    def step_finished(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """Called after every step with its event, which is the same on all ranks."""
        return None

    def scored(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """Called after every score with its event."""
        return None

    def stage_finished(self) -> None:
        """Called when the stage ends, also after an error."""

    def state(self) -> dict[str, Any]:
        """State as JSON-serialisable data."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
