"""Online RL on rollouts of the model itself: the base class, and PPO, RLOO and GRPO."""

from __future__ import annotations

from engine_rlhf.online.rollout_objective import RolloutObjective
from engine_rlhf.online.rounds import Companion, Round

__all__ = ["Companion", "RolloutObjective", "Round"]
