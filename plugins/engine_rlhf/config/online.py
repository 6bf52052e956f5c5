"""Configurations of online objectives, which train on the model's own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from engine import (
    BatchWork,
    Beside,
    Config,
    Count,
    Number,
    ObjectiveConfig,
    Of,
    RewardConfig,
    Share,
    StageRef,
)
from engine_rlhf.config.dropout import DropoutConfig
from engine_rlhf.config.rewards import StageReward, reward_name


class Constraint(Config):
    """A cost whose mean is kept at or below a limit (Safe RLHF, Dai et al. 2023)."""

    reward: Annotated[RewardConfig, Of("reward")] = Field(
        description="Reward component that measures the cost, with its weight."
    )
    limit: Number = Field(0.0, description="Largest mean cost.")
    start: Number = Field(1.0, gt=0, description="Initial multiplier.")
    lr: Number = Field(0.1, gt=0, description="Learning rate of the multiplier's logarithm.")


class AdaptiveKL(Config):
    """Adapts the penalty so that the KL divergence stays near a target (Ziegler et al. 2019, 2.2)."""

    target: Number = Field(6.0, gt=0, description="KL divergence per answer, in nats.")
    horizon: Count = Field(10_000, description="Episodes over which the penalty adapts.")


class Sampled(ObjectiveConfig):
    """Fields of all objectives that train on answers sampled from the model itself."""

    takes: ClassVar = frozenset({"prompt", "completion", "preference"})

    kl: Number = Field(0.05, ge=0, description="Penalty per nat of divergence from the reference.")
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model is the reference; without it, the starting model.",
    )
    temperature: Number = Field(1.0, gt=0, description="Temperature of sampling.")
    answer_tokens: Count = Field(64, description="Longest answer, in tokens.")
    passes: Count = Field(1, description="Optimization epochs over the episodes of each round.")
    mini_batches: Count = Field(
        1, description="Mini-batches, each an optimizer step, in an optimization epoch."
    )
    clip: Number = Field(
        0.2, gt=0, description="How far the probability ratio may be from 1 (Schulman et al. 2017)."
    )
    missing_eos_penalty: Number | None = Field(
        None,
        gt=0,
        description="Subtracted from the reward of an answer that has no end token.",
    )

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: an answer must leave room for a prompt in a row."""
        row = train.row_length(train.model)
        if row and self.answer_tokens >= row:
            return (
                f"answer_tokens {self.answer_tokens} leaves no room for a prompt in a row of {row}; "
                "lower it, or raise batch.sequence"
            )
        return super().check_train(train, processes)

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference, where the KL penalty is not 0."""
        return Beside(frozen=(self.reference,) * bool(self.kl))

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: a round of episodes, each scored once by every model."""
        return BatchWork(
            packed=False,
            answer_tokens=self.answer_tokens,
            passes=self.passes,
            steps=self.passes * self.mini_batches,
            reads=(1, 1),
            labels_only=True,
        )


class Online(Sampled, DropoutConfig):
    """Fields of objectives with any number of rewards and of constraints on costs."""

    rewards: tuple[Annotated[RewardConfig, Of("reward")], ...] = Field(
        min_length=1, description="Rewards, which are added up, each times its weight."
    )
    constraints: tuple[Constraint, ...] = Field(
        (), description="Costs that are kept below limits, each by a Lagrange multiplier."
    )
    reward_clip: Number | None = Field(
        None, gt=0, description="Largest absolute value of an episode's reward."
    )
    length_penalty: Number | None = Field(
        None, gt=0, description="Subtracted from the reward for each token of the answer."
    )

    @model_validator(mode="after")
    def _costs_have_names(self) -> Online:
        names = [reward_name(constraint.reward) for constraint in self.constraints]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"constraints: two of them are called '{name}', so the metrics could not tell them "
                    "apart; give each a `name`"
                )
        return self

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: a round must divide into even mini-batches."""
        wrong, strategy = super().check_train(train, processes), train.strategy
        if wrong or strategy.chooses or strategy.check_processes(processes):
            return wrong
        ranks = strategy.layout(processes).samples_over
        prompts = train.batch.examples or 0
        answers = prompts * getattr(self, "answers", 1)
        if prompts % ranks or answers % (self.mini_batches * ranks):
            return (
                f"the {answers} answers of a round do not divide evenly into {self.mini_batches} "
                f"mini-batches on each of {ranks} ranks; change batch.examples or mini_batches"
            )
        return None

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: also the models of rewards and costs."""
        measures = (*self.rewards, *(constraint.reward for constraint in self.constraints))
        asked = tuple(one.stage for one in measures if isinstance(one, StageReward))
        return replace(super().beside(), asked=asked)


class ActorCritic(Sampled):
    """Fields of PPO, in this plugin's implementation and in TRL's (Schulman et al. 2017)."""

    kl_estimator: Literal["k1", "k3"] = Field(
        "k1", description="Estimate of the divergence in the reward: k1, log π − log π_ref."
    )
    passes: Count = Field(4, description="Optimization epochs over the episodes of each round.")
    value: Annotated[str, StageRef("train")] | None = Field(
        None,
        description="Train stage whose model initialises the critic, such as a reward stage; without "
        "it, the starting model with a new head.",
    )
    value_weight: Number = Field(0.1, gt=0, description="Weight of the critic's loss.")
    value_clip: Number = Field(
        0.2,
        gt=0,
        description="How far a value may move from its estimate when the round began.",
    )
    gamma: Number = Field(1.0, gt=0, le=1, description="Discount per token.")
    gae_lambda: Share = Field(
        0.95, description="Weight of longer returns (Schulman et al. 2016, equation 16)."
    )
    whiten_rewards: bool = Field(
        False, description="Scale the rewards of a round to variance 1 and keep their mean."
    )

    @field_validator("kl_estimator")
    @classmethod
    def _k1(cls, value: str) -> str:
        if value != "k1":
            raise ValueError(
                "k3 is an unbiased estimate of the divergence, but its gradient as a reward is not "
                "the divergence's: training converges to another policy than π_ref·exp(r/β); use k1"
            )
        return value


class PPO(ActorCritic, Online):
    """Proximal policy optimization with a critic of its own (Schulman et al. 2017)."""

    adaptive_kl: AdaptiveKL | None = Field(None, description="Adapt the penalty to a target.")
    whitening: Literal["biased", "unbiased"] = Field(
        "biased",
        description="Variance that whitens advantages and rewards: divided by n (Huang et al. 2024) "
        "or by n − 1 (TRL).",
    )

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: also a critic of the reward and of every cost."""
        return replace(super().beside(), trained=(self.value,) * (1 + len(self.constraints)))

    @model_validator(mode="after")
    def _adapts_something(self) -> PPO:
        if self.adaptive_kl and not self.kl:
            raise ValueError(
                "adaptive_kl multiplies the penalty `kl`, which is 0: start it above 0"
            )
        return self


class Group(Online):
    """Fields of objectives that compare several answers to a prompt instead of training a critic."""

    answers: Annotated[Count, Field(ge=2)] = Field(
        8, description="Answers to each prompt; the others are an answer's baseline."
    )

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: several answers to each prompt."""
        return replace(super().batch_work(), texts=self.answers)


class RLOO(Group):
    """REINFORCE with the other answers' mean as the baseline (Ahmadian et al. 2024)."""

    normalize: bool = Field(False, description="Scale a round's advantages to mean 0, variance 1.")


class GRPO(Group):
    """Group-relative policy optimization (Shao et al. 2024), with the KL penalty in the loss."""

    kl: Number = Field(0.0, ge=0, description="Weight of the divergence in the loss (k3).")
    scale: Literal["group", "round", "none"] = Field(
        "group",
        description="What divides advantages: the standard deviation over a prompt's answers, over the "
        "round, or nothing.",
    )
    average: Literal["answer", "token", "longest"] = Field(
        "token",
        description="Mean that the loss takes: over each answer's tokens, then over answers (GRPO); "
        "over all tokens (DAPO); or over `answer_tokens` for every answer (Dr. GRPO).",
    )

    def warnings(self) -> Sequence[str]:
        """See :class:`engine.ObjectiveConfig`."""
        if not self.kl:
            return ()
        k3 = (
            f"grpo: kl {self.kl} by k3 in the loss has the gradient of KL(π_ref‖π), so the policy does "
            "not converge to π_ref·exp(r/β), as it does with rloo and ppo"
        )
        scaled = (
            "grpo: advantages scaled by group ignore the size of rewards, so `kl` is not weighed "
            "against it; use `scale: none`"
        )
        return (k3, scaled) if self.scale == "group" else (k3,)
