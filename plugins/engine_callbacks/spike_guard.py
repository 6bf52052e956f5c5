"""Keeps gradient spikes out of the weights."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from engine import (
    Callback,
    Context,
    RollBack,
    RunError,
)
from engine_callbacks.config import SpikeGuard

_OWN, _BESIDE = "grad_norm", "grad_norm/"
"""Names of gradient norms in events: of the stage's own model, and the prefix for companions."""


class SpikeGuardCallback(Callback):
    """Sets the gradient norm above which the strategy skips a step, and counts skipped steps.

    Every trained model has its own limit, as a critic's norm may be a hundred times the policy's.
    """

    def __init__(self, config: SpikeGuard) -> None:
        self._config = config
        self._norms: dict[str, deque[float]] = {}
        self._skipped: list[int] = []
        self._rollbacks = 0

    @property
    def spike_limit(self) -> float:  # type: ignore[override]
        """``factor`` × median norm of the good steps; infinity until there are enough."""
        return self._limit(_OWN)

    @property
    def spike_limits(self) -> Mapping[str, float]:  # type: ignore[override]
        """The limits of companions, by name."""
        return {
            name.removeprefix(_BESIDE): self._limit(name) for name in self._norms if name != _OWN
        }

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self._stage = stage
        self._fp16 = config["precision"] == "fp16"

    def step_finished(self, event: Mapping[str, Any]) -> RollBack | None:
        """See :class:`engine.Callback`. Raises RunError after too many roll-backs."""
        norms = {n: v for n, v in event.items() if n == _OWN or n.startswith(_BESIDE)}
        if not event["skipped"]:
            for name, norm in norms.items():
                self._of(name).append(norm)
            self._skipped.clear()
            return None
        if self._is_overflow(norms, event["loss"]):
            return None
        self._skipped.append(event["step"])
        if len(self._skipped) < self._config.patience:
            return None
        told = ", ".join(
            f"gradient norm{name.removeprefix(_OWN).replace('/', ' of ')} {norm:.3g} "
            f"(limit {self._limit(name):.3g})"
            for name, norm in norms.items()
        )
        reason = (
            f"{len(self._skipped)} steps in a row were skipped, the last with {told} and loss "
            f"{event['loss']:.3g}"
        )
        if self._rollbacks == self._config.max_rollbacks:
            raise RunError(
                f"{self._stage}: {reason}, and it has rolled back {self._rollbacks} times",
                hint="lower the learning rate, inspect the data with `engine data`, or raise the "
                "spike-guard's factor or max_rollbacks",
            )
        self._rollbacks += 1
        # Overflows may lie between skipped steps, so more than `patience` steps may be undone.
        steps = event["step"] - self._skipped[0] + 1
        self._skipped.clear()
        return RollBack(reason, steps)

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Callback`."""
        return {
            "norms": {name: list(norms) for name, norms in self._norms.items()},
            "skipped": list(self._skipped),
            "rollbacks": self._rollbacks,
        }

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        norms = state["norms"]  # a list in checkpoints from before each model had norms
        for name, values in (norms if isinstance(norms, dict) else {_OWN: norms}).items():
            self._of(name).extend(values)
        self._skipped = list(state["skipped"])
        self._rollbacks = state["rollbacks"]

    def _of(self, name: str) -> deque[float]:
        return self._norms.setdefault(name, deque(maxlen=self._config.window))

    def _limit(self, name: str) -> float:
        norms = self._of(name)
        if len(norms) < self._config.window / 2:
            return math.inf
        return self._config.factor * median(norms)

    def _is_overflow(self, norms: Mapping[str, float], loss: float) -> bool:
        """Whether only fp16's loss scale was too high, so that the loss itself is finite."""
        finite = all(math.isfinite(norm) for norm in norms.values())
        return self._fp16 and not finite and math.isfinite(loss)


def build(config: SpikeGuard, context: Context) -> SpikeGuardCallback:
    """The callback."""
    return SpikeGuardCallback(config)
