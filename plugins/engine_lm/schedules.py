"""Learning-rate schedules, which map progress to a factor on the peak rate."""

from __future__ import annotations

import math

from engine import Context, Progress, Schedule
from engine_lm.training_config import Constant, InverseSqrt, WarmupCosine, WarmupStableDecay


def build_constant(config: Constant, context: Context) -> Schedule:
    """Linear warm-up, then 1."""
    return lambda progress: _rise(progress.reached(config.warmup))


def build_cosine(config: WarmupCosine, context: Context) -> Schedule:
    """Linear warm-up, then cosine decay from 1 to ``final`` at the end of the budget."""

    def factor(progress: Progress) -> float:
        warm, done = progress.reached(config.warmup), progress.reached(progress.budget)
        if warm < 1:
            return _rise(warm)
        start = done / warm  # share of the budget that the warm-up took
        through = min((done - start) / max(1 - start, 1e-9), 1.0)
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * through)) / 2

    return factor


def build_stable_decay(config: WarmupStableDecay, context: Context) -> Schedule:
    """Linear warm-up, 1, then linear decay to ``final`` over the last ``decay`` of the budget."""

    def factor(progress: Progress) -> float:
        left = max(1 - progress.reached(progress.budget), 0.0)
        fall = config.final + (1 - config.final) * min(left / config.decay, 1.0)
        return min(_rise(progress.reached(config.warmup)), fall)

    return factor


def build_inverse_sqrt(config: InverseSqrt, context: Context) -> Schedule:
    """min(t / warmup, sqrt(warmup / t))."""

    def factor(progress: Progress) -> float:
        t = progress.reached(config.warmup)
        return min(t, t**-0.5) if 0 < t < math.inf else _rise(t)

    return factor


_FIRST = 1e-3


def _rise(share: float) -> float:
    """The warm-up factor; above 0, as a first step with rate 0 would be wasted."""
    return min(max(share, _FIRST), 1.0)
