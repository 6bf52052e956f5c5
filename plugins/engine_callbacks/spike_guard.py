"""Keeps gradient spikes out of the weights."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from engine import BaseCallback, Context, RollBack, RunError
from engine_callbacks.config import SpikeGuard


class SpikeGuardCallback(BaseCallback):
    """Sets the norm above which the strategy skips a step, and counts what it skips."""

    def __init__(self, config: SpikeGuard) -> None:
        self._config = config
        self._norms: deque[float] = deque(maxlen=config.window)
        self._skipped: list[int] = []
        self._rollbacks = 0

    @property
    def spike_limit(self) -> float:  # type: ignore[override]
        """``factor`` × median of the good steps' norms; no limit before there are enough."""
        if len(self._norms) < self._config.window / 2:
            return math.inf
        return self._config.factor * median(self._norms)

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self._stage = stage
        self._fp16 = config["precision"] == "fp16"

    def step_finished(self, event: Mapping[str, Any]) -> RollBack | None:
        """See :class:`engine.Callback`. Raises RunError after too many roll-backs."""
        if not event["skipped"]:
            self._norms.append(event["grad_norm"])
            self._skipped.clear()
            return None
        if self._is_overflow(event):
            return None
        self._skipped.append(event["step"])
        if len(self._skipped) < self._config.patience:
            return None
        reason = (
            f"{len(self._skipped)} steps in a row were skipped, the last with gradient norm "
            f"{event['grad_norm']:.3g} (limit {self.spike_limit:.3g}) and loss {event['loss']:.3g}"
        )
        if self._rollbacks == self._config.max_rollbacks:
            raise RunError(
                f"{self._stage}: {reason}, and it has rolled back {self._rollbacks} times",
                mend="lower the learning rate, look at the data with `engine data`, or raise the "
                "spike-guard's factor or max_rollbacks",
            )
        self._rollbacks += 1
        # Overflows may lie between them, so more steps than `patience` may have to go.
        steps = event["step"] - self._skipped[0] + 1
        self._skipped.clear()
        return RollBack(reason, steps)

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Callback`."""
        return {
            "norms": list(self._norms),
            "skipped": list(self._skipped),
            "rollbacks": self._rollbacks,
        }

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self._norms.extend(state["norms"])
        self._skipped = list(state["skipped"])
        self._rollbacks = state["rollbacks"]

    def _is_overflow(self, event: Mapping[str, Any]) -> bool:
        """Whether only the loss scale of fp16 was too high: the loss itself then is finite."""
        return self._fp16 and not math.isfinite(event["grad_norm"]) and math.isfinite(event["loss"])


def build(config: SpikeGuard, context: Context) -> SpikeGuardCallback:
    """The callback."""
    return SpikeGuardCallback(config)
