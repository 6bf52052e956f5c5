"""Coefficients that are updated after each round: constraint multipliers and the KL penalty."""

from __future__ import annotations

import math

from engine_rlhf.config.online import AdaptiveKL, Constraint

_MOST = 10.0
"""Limit of |ln λ|: its updates grow with λ, so without a limit it overflows within a few rounds."""


class Multiplier:
    """The Lagrange multiplier λ of one constraint (Dai et al. 2023, equation 10)."""

    def __init__(self, config: Constraint) -> None:
        self._config = config
        self.log = math.log(config.start)

    @property
    def value(self) -> float:
        """The multiplier λ."""
        return math.exp(self.log)

    def move(self, mean_cost: float) -> None:
        """Updates ln λ ← ln λ + lr·λ·(mean cost − limit), with the mean cost of a round."""
        moved = self.log + self._config.lr * self.value * (mean_cost - self._config.limit)
        self.log = min(max(moved, -_MOST), _MOST)


class Penalty:
    """The coefficient β of the KL divergence, fixed or adaptive."""

    def __init__(self, start: float, adaptive: AdaptiveKL | None = None) -> None:
        self.value = start
        self._adaptive = adaptive

    def move(self, kl: float, episodes: int) -> None:
        """Updates β ← β·(1 + e·episodes/horizon), e = kl/target − 1 within ±0.2 (Ziegler et al. 2019).

        Counts at most ``horizon`` episodes of a round, or β could fall below 0.
        """
        if self._adaptive is not None:
            error = min(max(kl / self._adaptive.target - 1, -0.2), 0.2)
            self.value *= 1 + error * min(episodes / self._adaptive.horizon, 1)
