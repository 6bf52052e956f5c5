"""Configuration of the evaluator of a model's own answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from engine import Config, Count, EvaluatorConfig, Number, Of, StageRef


class AnswerReward(EvaluatorConfig):
    """What a model's own answers to held-out prompts are worth, and how far it has moved."""

    held_out: ClassVar = True

    rewards: tuple[Annotated[Config, Of("reward")], ...] = Field(
        min_length=1, description="What is rewarded: the sum, each with its weight."
    )
    costs: tuple[Annotated[Config, Of("reward")], ...] = Field(
        (), description="What is measured beside, each with its weight, of which less is better."
    )
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None, description="Train stage from whose model the divergence is estimated, by k1."
    )
    answer_tokens: Count = Field(64, description="Longest answer, in tokens.")
    temperature: Number = Field(
        1.0, ge=0, description="Temperature of sampling; 0 takes the likeliest token."
    )

    @model_validator(mode="after")
    def _samples_the_model(self) -> AnswerReward:
        if self.reference is not None and self.temperature != 1:
            raise ValueError(
                f"reference: the divergence is an expectation over the model's own answers, at "
                f"temperature 1, not {self.temperature:g}; leave one of the two out"
            )
        return self
