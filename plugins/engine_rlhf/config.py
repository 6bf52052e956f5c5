"""Configurations of rewards, and of objectives that learn from the model's own answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from engine import (
    Beside,
    Config,
    Count,
    Need,
    Number,
    ObjectiveConfig,
    Of,
    RewardConfig,
    Share,
    StageRef,
    VariableName,
    host_of,
    network_need,
    secret_need,
)
from engine_rlhf.dropout_config import DropoutConfig


class StageReward(RewardConfig):
    """What a reward or cost model of this run gives, normalised as its artefact says."""

    stage: Annotated[str, StageRef("train", head="scalar")] = Field(
        description="Name of a reward or cost stage."
    )


class Length(RewardConfig):
    """The answer's length in words, over a scale."""

    scale: Number = Field(1.0, gt=0, description="Words that count as 1.")


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no address that begins with http:// or https://")
    host_of(url)
    return url


class Http(RewardConfig):
    """A service: it is posted `prompts`, `completions` and `rows` (the further columns of each prompt's
    record), and answers with `scores`."""

    url: Annotated[str, AfterValidator(_web_address)] = Field(
        description="Where the service answers; it needs `--allow network=HOST` unless that is this "
        "machine (localhost, 127.0.0.1)."
    )
    key_env: VariableName | None = Field(
        None,
        description="Environment variable that holds the service's key (a bearer token); it needs "
        "`--allow secret=NAME@HOST`.",
    )
    timeout: Number = Field(60.0, gt=0, description="Seconds for a whole answer.")
    attempts: Count = Field(3, description="Tries before training stops.")

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: the request, and the key in it."""
        yield from network_need("url", self.url, "sends prompts and answers")
        if self.key_env:
            yield secret_need("key_env", self.key_env, self.url)


class Constraint(Config):
    """A cost whose mean must stay at or below a limit (Safe RLHF, Dai et al. 2023)."""

    reward: Annotated[Config, Of("reward")] = Field(
        description="What measures the cost, with its weight."
    )
    limit: Number = Field(0.0, description="Largest mean cost.")
    start: Number = Field(1.0, gt=0, description="Multiplier at the beginning.")
    lr: Number = Field(0.1, gt=0, description="Rate at which the multiplier's logarithm moves.")


class AdaptiveKL(Config):
    """Moves the penalty so that the KL divergence stays near a target (Ziegler et al. 2019, 2.2)."""

    target: Number = Field(6.0, gt=0, description="KL divergence per answer, in nats.")
    horizon: Count = Field(10_000, description="Episodes over which the penalty adapts.")


class Sampled(ObjectiveConfig):
    """What all objectives share that learn from answers which the model itself samples."""

    takes: ClassVar = frozenset({"prompt", "completion", "preference"})

    kl: Number = Field(0.05, ge=0, description="Penalty per nat of divergence from the reference.")
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model is the reference; without it, the starting model.",
    )
    temperature: Number = Field(1.0, gt=0, description="Temperature of sampling.")
    answer_tokens: Count = Field(64, description="Longest answer, in tokens.")
    passes: Count = Field(1, description="How often a round's episodes are gone through.")
    mini_batches: Count = Field(1, description="Optimizer steps in a pass.")
    clip: Number = Field(
        0.2, gt=0, description="How far the probability ratio may move (Schulman et al. 2017)."
    )
    missing_eos_penalty: Number | None = Field(
        None, gt=0, description="Taken from the reward of an answer that does not end by itself."
    )

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: answers must fit."""
        row = train.row_length(train.model)
        if row and self.answer_tokens >= row:
            return (
                f"answer_tokens {self.answer_tokens} leaves no room for a prompt in a row of {row}; "
                "lower it, or raise batch.sequence"
            )
        return super().check_train(train, processes)

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference, where there is a penalty."""
        return Beside(frozen=(self.reference,) * bool(self.kl))


class Online(Sampled, DropoutConfig):
    """Rewards of any kind, and costs."""

    rewards: tuple[Annotated[Config, Of("reward")], ...] = Field(
        min_length=1, description="What is rewarded: the sum, each with its weight."
    )
    constraints: tuple[Constraint, ...] = Field(
        (), description="Costs that are kept below limits, each by a multiplier."
    )
    reward_clip: Number | None = Field(
        None, gt=0, description="Largest absolute value of an episode's reward."
    )
    length_penalty: Number | None = Field(
        None, gt=0, description="Taken from the reward for each token of the answer."
    )

    @model_validator(mode="after")
    def _costs_have_names(self) -> Online:
        names = [reward_name(constraint.reward) for constraint in self.constraints]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"constraints: two of them are called '{name}', as their multipliers would be in "
                    "the metrics; give each a `name`"
                )
        return self

    def check_train(self, train: Any, processes: int) -> str | None:
        """And a round must be shared alike."""
        wrong, strategy = super().check_train(train, processes), train.strategy
        if wrong or strategy.chooses or strategy.check_processes(processes):
            return wrong
        ranks = strategy.layout(processes).samples_over
        prompts = train.batch.examples or 0
        answers = prompts * getattr(self, "answers", 1)
        if prompts % ranks or answers % (self.mini_batches * ranks):
            return (
                f"{answers} answers of a round cannot be shared alike by {self.mini_batches} "
                f"mini-batches and {ranks} ranks; change batch.examples or mini_batches"
            )
        return None

    def beside(self) -> Beside:
        """And the models of rewards and costs."""
        measures = (*self.rewards, *(constraint.reward for constraint in self.constraints))
        asked = tuple(one.stage for one in measures if isinstance(one, StageReward))
        return replace(super().beside(), asked=asked)


class ActorCritic(Sampled):
    """What PPO adds, whoever's (Schulman et al. 2017)."""

    kl_estimator: Literal["k1", "k3"] = Field(
        "k1", description="Estimate of the divergence in the reward: k1, log π − log π_ref."
    )
    passes: Count = Field(4, description="How often a round's episodes are gone through.")
    value: Annotated[str, StageRef("train")] | None = Field(
        None,
        description="Stage whose model the critic starts as, such as the reward model's; without "
        "it, the starting model with a new head.",
    )
    value_weight: Number = Field(0.1, gt=0, description="Weight of the critic's loss.")
    value_clip: Number = Field(0.2, gt=0, description="How far a value may move in a round.")
    gamma: Number = Field(1.0, gt=0, le=1, description="Discount per token.")
    gae_lambda: Share = Field(
        0.95, description="Weight of longer returns (Schulman et al. 2016, equation 16)."
    )
    whiten_rewards: bool = Field(
        False, description="Scale the rewards of a round to variance 1; their mean stays."
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
        description="Variance by which advantages and rewards are whitened: over n (Huang et al. "
        "2024), or over n − 1, as TRL does.",
    )

    def beside(self) -> Beside:
        """And a critic of the reward and of every cost."""
        return replace(super().beside(), trained=(self.value,) * (1 + len(self.constraints)))

    @model_validator(mode="after")
    def _adapts_something(self) -> PPO:
        if self.adaptive_kl and not self.kl:
            raise ValueError(
                "adaptive_kl multiplies the penalty `kl`, which is 0: start it above 0"
            )
        return self


class Group(Online):
    """What objectives without a critic share: several answers to a prompt are compared."""

    answers: Annotated[Count, Field(ge=2)] = Field(
        8, description="Answers to each prompt, which are each other's baseline."
    )


class RLOO(Group):
    """REINFORCE with the other answers' mean as the baseline (Ahmadian et al. 2024)."""

    normalize: bool = Field(False, description="Scale a round's advantages to mean 0, variance 1.")


class GRPO(Group):
    """Group-relative policy optimization (Shao et al. 2024); the divergence is in the loss."""

    kl: Number = Field(0.0, ge=0, description="Weight of the divergence in the loss (k3).")
    scale: Literal["group", "round", "none"] = Field(
        "group", description="Whose standard deviation advantages are divided by."
    )
    average: Literal["answer", "token", "longest"] = Field(
        "token",
        description="What the loss is a mean over: tokens of an answer and then answers (GRPO), all "
        "tokens (DAPO), or answer_tokens for every answer (Dr. GRPO).",
    )

    def warnings(self) -> Sequence[str]:
        """See :class:`engine.ObjectiveConfig`."""
        if not self.kl:
            return ()
        k3 = (
            f"grpo: kl {self.kl} by k3 in the loss has the gradient of KL(π_ref‖π), so the policy ends "
            "elsewhere than at π_ref·exp(r/β); rloo and ppo end there"
        )
        scaled = (
            "grpo: beside advantages scaled by group, kl no longer weighs against the reward, only "
            "against its sign; use `scale: none`"
        )
        return (k3, scaled) if self.scale == "group" else (k3,)


def reward_name(config: Any) -> str:
    """What logs and tables call a reward."""
    return str(config.name or config.type)
