"""Configurations of the plugin of tests."""

from typing import Annotated, ClassVar

from pydantic import Field

from engine import (
    Config,
    Count,
    Of,
    OptimizerWrapperConfig,
    PenaltyConfig,
    PenaltyInput,
    RewardConfig,
    Share,
    StrategyConfig,
)


class LoadBalance(PenaltyConfig):
    """E · Σ f·P over experts (Fedus et al. 2022, equation 4), with f of the step before."""

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"modules"})


class Lookahead(OptimizerWrapperConfig):
    """Lookahead (Zhang et al. 2019)."""

    every: Count = Field(
        2, description="Steps of the optimizer inside between those of slow weights."
    )
    toward: Share = Field(0.5, description="How far slow weights move toward fast ones.")

    def state_floats(self, *, hidden):
        """The slow weights, too."""
        return super().state_floats(hidden=hidden) + 1


class Delayed(Config):
    """A constant fraction of the peak at first."""

    steps: Count = Field(2, description="Steps before the schedule inside begins.")
    schedule: Annotated[Config, Of("schedule")] = Field(description="The schedule after them.")


class Sum(RewardConfig):
    """The weighted sum of rewards."""

    rewards: tuple[Annotated[RewardConfig, Of("reward")], ...] = Field(description="Its parts.")


class Counted(StrategyConfig):
    """Another strategy, and how many steps it has taken."""

    strategy: Annotated[StrategyConfig, Of("strategy")] = Field(description="The strategy inside.")

    @property
    def penalty_inputs(self):
        """Those of the strategy inside."""
        return self.strategy.penalty_inputs

    def check_processes(self, processes):
        """As the strategy inside."""
        return self.strategy.check_processes(processes)
