"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_objectives() -> Sequence[Component]:
    """Supervised fine-tuning."""
    return [
        Component(
            "sft",
            "engine_sft.config:SFT",
            "engine_sft.sft:build",
            "Next-token loss on the answers of conversations and completions.",
        )
    ]


@hookimpl
def engine_adapters() -> Sequence[Component]:
    """Adapters, which add few trainable weights to a frozen model and are merged at the end."""
    return [
        Component(
            "lora",
            "engine_sft.config:LoRA",
            "engine_sft.adapters:build_lora",
            "Low-rank adapters on linear layers, by peft.",
            extra="sft",
        ),
        Component(
            "dora",
            "engine_sft.config:DoRA",
            "engine_sft.adapters:build_dora",
            "LoRA with separately trained row magnitudes, by peft.",
            extra="sft",
        ),
    ]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Perplexity of held-out answers."""
    return [
        Component(
            "answer-perplexity",
            "engine_sft.config:AnswerPerplexity",
            "engine_sft.answer_perplexity:build",
            "Perplexity and nats per token of held-out answers.",
        )
    ]
