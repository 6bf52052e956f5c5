"""The components and commands that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """The command group ``rlhf``."""
    from engine_rlhf.commands import rlhf

    return [rlhf]


@hookimpl
def engine_objectives() -> Sequence[Component]:
    """Objectives for learning from rewards, preferences and teachers."""
    return [
        Component(
            "ppo",
            "engine_rlhf.config.online:PPO",
            "engine_rlhf.online.ppo:build",
            "PPO with a critic of its own, rewards and constraints.",
        ),
        Component(
            "trl-ppo",
            "engine_rlhf.config.trl_ppo:TrlPPO",
            "engine_rlhf.trl_ppo.objective:build",
            "TRL's own PPO, for comparison.",
            extra="rlhf",
        ),
        Component(
            "rloo",
            "engine_rlhf.config.online:RLOO",
            "engine_rlhf.online.group:build_rloo",
            "REINFORCE with a leave-one-out baseline.",
        ),
        Component(
            "grpo",
            "engine_rlhf.config.online:GRPO",
            "engine_rlhf.online.group:build_grpo",
            "Group-relative policy optimization.",
        ),
        Component(
            "reward",
            "engine_rlhf.config.offline:Reward",
            "engine_rlhf.offline.reward_model:build_reward",
            "A reward model from preferences.",
        ),
        Component(
            "cost",
            "engine_rlhf.config.offline:Cost",
            "engine_rlhf.offline.reward_model:build_cost",
            "A cost model from preferences and safety labels.",
        ),
        Component(
            "dpo",
            "engine_rlhf.config.offline:DPO",
            "engine_rlhf.offline.dpo:build",
            "Direct preference optimization, IPO, and DPO per token.",
        ),
        Component(
            "kto",
            "engine_rlhf.config.offline:KTO",
            "engine_rlhf.offline.kto:build",
            "Kahneman-Tversky optimization.",
        ),
        Component(
            "distill",
            "engine_rlhf.config.offline:Distill",
            "engine_rlhf.offline.distill:build",
            "Distillation from a teacher model.",
        ),
    ]


@hookimpl
def engine_rewards() -> Sequence[Component]:
    """Rewards from a stage's model, the answer's length, or a web service."""
    return [
        Component(
            "stage",
            "engine_rlhf.config.rewards:StageReward",
            "engine_rlhf.rewards.stage:build",
            "The reward or cost model of a stage, normalised.",
        ),
        Component(
            "length",
            "engine_rlhf.config.rewards:Length",
            "engine_rlhf.rewards.length:build",
            "The answer's length in words.",
        ),
        Component(
            "http",
            "engine_rlhf.config.rewards:Http",
            "engine_rlhf.rewards.http:build",
            "A web service that scores answers.",
        ),
    ]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Evaluators of reward models, and of a model's own answers."""
    return [
        Component(
            "preference-accuracy",
            "engine_rlhf.config.evaluators:PreferenceAccuracy",
            "engine_rlhf.evaluators.preference_accuracy:build",
            "Accuracy and calibration of a reward or cost model on held-out pairs.",
        ),
        Component(
            "answer-reward",
            "engine_rlhf.config.evaluators:AnswerReward",
            "engine_rlhf.evaluators.answer_reward:build",
            "Rewards of a model's answers to held-out prompts, and its divergence from another.",
        ),
    ]
