"""Configurations of this plugin's evaluators."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from engine import (
    Count,
    EvaluatorConfig,
    Number,
    Of,
    RewardConfig,
    StageRef,
)


class PreferenceAccuracy(EvaluatorConfig):
    """Accuracy and calibration of a reward or cost model on held-out preferences."""

    head: ClassVar[Literal["lm", "scalar"]] = "scalar"
    held_out: ClassVar = True

    values: Literal["reward", "cost"] = Field(
        "reward",
        description="Which answer should have the higher value: the chosen one (`reward`), or the "
        "rejected one (`cost`).",
    )
    bins: Count = Field(10, description="Bins of probability in the calibration error.")


class AnswerReward(EvaluatorConfig):
    """Rewards of a model's own answers to held-out prompts, and its divergence from a reference."""

    held_out: ClassVar = True

    rewards: tuple[Annotated[RewardConfig, Of("reward")], ...] = Field(
        min_length=1, description="Rewards, which are added up, each times its weight."
    )
    costs: tuple[Annotated[RewardConfig, Of("reward")], ...] = Field(
        (),
        description="Costs: reward components for which lower is better. Each is reported by itself, "
        "times its weight.",
    )
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model the divergence (estimator k1) is measured from.",
    )
    answer_tokens: Count = Field(64, description="Longest answer, in tokens.")
    temperature: Number = Field(
        1.0, ge=0, description="Temperature of sampling; 0 takes the most probable token."
    )

    @model_validator(mode="after")
    def _samples_the_model(self) -> AnswerReward:
        if self.reference is not None and self.temperature != 1:
            raise ValueError(
                f"reference: the divergence can only be estimated from answers sampled at temperature "
                f"1, not {self.temperature:g}; leave out `reference` or `temperature`"
            )
        return self
