"""The base class of objectives that train on rollouts of their own model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from engine import (
    Callback,
    Feed,
    FeedSetup,
    Precision,
    Strategy,
)
from engine.modeling import examine, for_training
from engine_rlhf.online.joint_strategy import JointStrategy
from engine_rlhf.online.rollout_feed import RolloutFeed
from engine_rlhf.online.rounds import RolloutContract


class RolloutObjective(RolloutContract):
    """Collects rollouts of the current model in rounds, and trains on each; subclass it."""

    def strategy(
        self,
        build: Callable[[], Strategy],
        start: Callable[[], nn.Module],
        callbacks: Sequence[Callback],
        precision: Precision,
    ) -> Strategy:
        """See :class:`engine.Objective`: the stage's strategy, joined by one for each companion."""
        main = build()
        others = self.companions(start())
        if not others:
            return main
        for companion in others.values():
            for_training(companion.model, precision)
            examine(companion.model, learns=True)

        def limit(name: str) -> float:
            return min((c.spike_limits.get(name, math.inf) for c in callbacks), default=math.inf)

        return JointStrategy(
            main, {name: (build(), other) for name, other in others.items()}, limit
        )

    def feed(self, setup: FeedSetup) -> Feed:
        """See :class:`engine.Objective`: the mini-batches of each round's episodes."""
        return RolloutFeed(self, setup)
