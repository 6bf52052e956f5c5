"""Ends a stage when a score no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import (
    Callback,
    Context,
    RunError,
    Stop,
)
from engine_callbacks.config import EarlyStop


class EarlyStopCallback(Callback):
    """Tracks the best score, and how many scores since have not improved on it."""

    def __init__(self, config: EarlyStop) -> None:
        self._config = config
        self._best = math.inf  # best score so far, negated if higher is better
        self._waited = 0
        self._stopped_at: int | None = None
        self._seen: set[str] = set()

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`. Raises RunError where no evaluator runs during training."""
        self._stage = stage
        self._evaluators = {e["type"] for e in config["evaluate"] if e["every"]}
        if not self._evaluators:
            raise RunError(
                f"{stage}: early-stop waits for scores, but no evaluator has an interval",
                hint="give one, e.g. evaluate: [{type: perplexity, every: 200 steps}]",
            )

    def step_finished(self, event: Mapping[str, Any]) -> None:
        """See :class:`engine.Callback`. Raises RunError unless exactly one score has that name."""
        if {name.partition("/")[0] for name in self._seen} >= self._evaluators:
            named = [name for name in sorted(self._seen) if self._is_meant(name)]
            if len(named) != 1:
                raise RunError(
                    f"{self._stage}: early-stop's metric '{self._config.metric}' names "
                    f"{' and '.join(named) or 'no score'}",
                    hint=f"write one of: {', '.join(sorted(self._seen))}",
                )

    def scored(self, event: Mapping[str, Any]) -> Stop | None:
        """See :class:`engine.Callback`."""
        name = f"{event['evaluator']}/{event['metric']}"
        self._seen.add(name)
        if not self._is_meant(name) or event["step"] == self._stopped_at:
            return None  # the final model is scored once more
        value = -event["value"] if event["higher_is_better"] else event["value"]
        if value < self._best - self._config.min_delta:
            self._best, self._waited = value, 0
            return None
        self._waited += 1
        if self._waited < self._config.patience:
            return None
        # An ended stage only continues if its budget has changed; then the count restarts.
        waited, self._waited, self._stopped_at = self._waited, 0, event["step"]
        return Stop(
            f"{name} is {event['value']:.6g} and has not improved {waited} times in a row: "
            f"the best is {abs(self._best):.6g}"
        )

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Callback`."""
        return {"best": self._best, "waited": self._waited}

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Callback`."""
        self._best, self._waited = state["best"], state["waited"]

    def _is_meant(self, name: str) -> bool:
        return self._config.metric in (name, name.partition("/")[2])


def build(config: EarlyStop, context: Context) -> EarlyStopCallback:
    """The callback."""
    return EarlyStopCallback(config)
