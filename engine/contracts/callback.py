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

    Every rank calls ``stage_started``; ``load`` if the stage is resumed; ``step_finished`` and
    ``scored``, and must get the same answers; ``state`` for each checkpoint; ``stage_finished``.

    A step is skipped if the gradient norm exceeds ``spike_limit``, or, for a model trained beside the
    stage's own, its limit in ``spike_limits``.
    """

    spike_limit: float = float("inf")
    spike_limits: Mapping[str, float] = MappingProxyType({})

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Called before the first step. ``folder``: the stage's; ``config``: the train stage's fields
        as plain data, with what ``auto`` means here."""

    def step_finished(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """Called after every step with its line of events.jsonl.

        It has ``stage``, ``step``, ``tokens`` so far, ``loss`` and other terms (means over their
        counts), ``lr``, ``grad_norm`` before clipping, ``skipped``, ``tokens_per_second`` of all ranks,
        ``utilisation`` (the model's FLOPs per second over the peak of all ranks' devices, if both are
        known), ``memory`` (the most that this rank has used, in bytes) and ``time`` (seconds since
        1970). Only the last two differ between ranks.
        """
        return None

    def scored(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """Called after every score with its line of events.jsonl: ``stage``, ``model``, ``step``,
        ``evaluator``, ``time`` and the fields of a :class:`engine.Score`. :class:`RollBack` has no
        effect here."""
        return None

    def stage_finished(self) -> None:
        """Called when the stage ends, also after an error."""

    def state(self) -> dict[str, Any]:
        """State as JSON-serialisable data."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
