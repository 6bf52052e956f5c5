"""What moves from round to round beside the weights: multipliers of constraints, the KL penalty."""

from __future__ import annotations

import math

from engine_rlhf.config import AdaptiveKL, Constraint

_MOST = 10.0
"""Of |ln λ|: as it moves by λ, it would be beyond all numbers within a few rounds."""


class Multiplier:
    """λ of one constraint: ln λ ← ln λ + lr·λ·(mean cost − limit) (Dai et al. 2023, equation 10)."""

    def __init__(self, config: Constraint) -> None:
        self._config = config
        self.log = math.log(config.start)

    @property
    def value(self) -> float:
        """λ."""
        return math.exp(self.log)

    def move(self, mean_cost: float) -> None:
        """After a round with this mean cost."""
        moved = self.log + self._config.lr * self.value * (mean_cost - self._config.limit)
        self.log = min(max(moved, -_MOST), _MOST)


class Penalty:
    """β of the KL divergence, fixed or adaptive."""

    def __init__(self, start: float, adaptive: AdaptiveKL | None = None) -> None:
        self.value = start
        self._adaptive = adaptive

    def move(self, kl: float, episodes: int) -> None:
        """β ← β·(1 + e·episodes/horizon), e = kl/target − 1 between ±0.2 (Ziegler et al. 2019).

        Of a round beyond the horizon no more counts than that: β would fall below 0.
        """
        if self._adaptive is not None:
            error = min(max(kl / self._adaptive.target - 1, -0.2), 0.2)
            self.value *= 1 + error * min(episodes / self._adaptive.horizon, 1)
