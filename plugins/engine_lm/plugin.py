"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_models() -> Sequence[Component]:
    """Decoder-only language models."""
    return [
        Component(
            "llama",
            "engine_lm.config:Llama",
            "engine_lm.models:build_llama",
            "A new Llama model, set up by a few fields.",
        ),
        Component(
            "causal-lm",
            "engine_lm.config:CausalLM",
            "engine_lm.models:build_causal_lm",
            "A new model of any transformers architecture, by name and config.",
        ),
        Component(
            "pretrained",
            "engine_lm.config:Pretrained",
            "engine_lm.models:build_pretrained",
            "A model from a folder, or from a hub at a pinned revision.",
        ),
        Component(
            "stage",
            "engine_lm.config:StageModel",
            "engine_lm.models:build_stage",
            "The model of another train stage of the run.",
        ),
    ]


@hookimpl
def engine_objectives() -> Sequence[Component]:
    """Pre-training."""
    return [
        Component(
            "next-token",
            "engine_lm.training_config:NextToken",
            "engine_lm.next_token:build",
            "The mean of -log P(token | tokens before it in its document).",
        )
    ]


@hookimpl
def engine_penalties() -> Sequence[Component]:
    """Terms for logits and for weights."""
    return [
        Component(
            "z-loss",
            "engine_lm.training_config:ZLoss",
            "engine_lm.penalties:build_z_loss",
            "Keeps the normaliser of the next token's logits near 1.",
        ),
        Component(
            "distance-to-start",
            "engine_lm.training_config:DistanceToStart",
            "engine_lm.penalties:build_distance",
            "Keeps weights near those at the start of the stage.",
        ),
    ]


@hookimpl
def engine_optimizers() -> Sequence[Component]:
    """AdamW, AdamW with 8-bit moments, and Muon."""
    return [
        Component(
            "adamw",
            "engine_lm.training_config:AdamW",
            "engine_lm.optimizers:build_adamw",
            "Fused AdamW, with weight decay on matrices only.",
            default=True,
        ),
        Component(
            "adamw-8bit",
            "engine_lm.training_config:AdamW8Bit",
            "engine_lm.eight_bit:build",
            "AdamW with 8-bit moments, by bitsandbytes.",
            extra="lm",
        ),
        Component(
            "muon",
            "engine_lm.training_config:Muon",
            "engine_lm.optimizers:build_muon",
            "Muon on hidden matrices, AdamW on the rest.",
        ),
    ]


@hookimpl
def engine_schedules() -> Sequence[Component]:
    """Learning-rate schedules."""
    return [
        Component(
            "constant",
            "engine_lm.training_config:Constant",
            "engine_lm.schedules:build_constant",
            "Linear warm-up, then a constant rate.",
            default=True,
        ),
        Component(
            "warmup-cosine",
            "engine_lm.training_config:WarmupCosine",
            "engine_lm.schedules:build_cosine",
            "Linear warm-up, then cosine decay to the final rate.",
        ),
        Component(
            "warmup-stable-decay",
            "engine_lm.training_config:WarmupStableDecay",
            "engine_lm.schedules:build_stable_decay",
            "Linear warm-up, a constant rate, then linear decay at the end.",
        ),
        Component(
            "inverse-sqrt",
            "engine_lm.training_config:InverseSqrt",
            "engine_lm.schedules:build_inverse_sqrt",
            "min(t / warmup, sqrt(warmup / t)).",
        ),
    ]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Perplexity."""
    return [
        Component(
            "perplexity",
            "engine_lm.training_config:Perplexity",
            "engine_lm.perplexity:build",
            "Perplexity per token and bits per byte on held-out documents.",
        )
    ]


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """Tries architectures."""
    from engine_lm.commands import models

    return [models]
