"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """What was answered in a round."""
    from engine_rlhf.commands import rollouts

    return [rollouts]


@hookimpl
def engine_objectives() -> Sequence[Component]:
    """Objectives from preferences, rewards and teachers."""
    return [
        Component(
            "ppo",
            "engine_rlhf.config:PPO",
            "engine_rlhf.ppo:build",
            "PPO with a critic of its own, rewards and constraints.",
        ),
        Component(
            "trl-ppo",
            "engine_rlhf.trl_config:TrlPPO",
            "engine_rlhf.trl_ppo:build",
            "TRL's own PPO, for comparison.",
            extra="rlhf",
        ),
        Component(
            "rloo",
            "engine_rlhf.config:RLOO",
            "engine_rlhf.group:build_rloo",
            "REINFORCE with a leave-one-out baseline.",
        ),
        Component(
            "grpo",
            "engine_rlhf.config:GRPO",
            "engine_rlhf.group:build_grpo",
            "Group-relative policy optimization.",
        ),
        Component(
            "reward",
            "engine_rlhf.offline_config:Reward",
            "engine_rlhf.reward:build_reward",
            "A reward model from preferences.",
        ),
        Component(
            "cost",
            "engine_rlhf.offline_config:Cost",
            "engine_rlhf.reward:build_cost",
            "A cost model from preferences and safety labels.",
        ),
        Component(
            "dpo",
            "engine_rlhf.offline_config:DPO",
            "engine_rlhf.dpo:build",
            "Direct preference optimization, IPO, and DPO per token.",
        ),
        Component(
            "kto",
            "engine_rlhf.offline_config:KTO",
            "engine_rlhf.kto:build",
            "Kahneman-Tversky optimization.",
        ),
        Component(
            "distill",
            "engine_rlhf.offline_config:Distill",
            "engine_rlhf.distill:build",
            "The distributions of a teacher.",
        ),
    ]


@hookimpl
def engine_rewards() -> Sequence[Component]:
    """Reward models, the answer's length, a service."""
    return [
        Component(
            "stage",
            "engine_rlhf.config:StageReward",
            "engine_rlhf.rewards:build_stage",
            "The reward or cost model of a stage, normalised.",
        ),
        Component(
            "length",
            "engine_rlhf.config:Length",
            "engine_rlhf.rewards:build_length",
            "The answer's length in words.",
        ),
        Component(
            "http",
            "engine_rlhf.config:Http",
            "engine_rlhf.rewards:build_http",
            "A service that scores answers.",
        ),
    ]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Agreement with preferences, rewards of a model's answers."""
    return [
        Component(
            "preference-accuracy",
            "engine_rlhf.offline_config:PreferenceAccuracy",
            "engine_rlhf.preference_accuracy:build",
            "Accuracy and calibration of a reward or cost model on held-out pairs.",
        ),
        Component(
            "answer-reward",
            "engine_rlhf.evaluator_config:AnswerReward",
            "engine_rlhf.answer_reward:build",
            "Rewards of a model's answers to held-out prompts, and its divergence from another.",
        ),
    ]
