"""What this plugin declares."""

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
            "The mean of -log P over the tokens of answers, in conversations and completions.",
        )
    ]


@hookimpl
def engine_adapters() -> Sequence[Component]:
    """A few trained weights beside a frozen model, folded in at the end."""
    return [
        Component(
            "lora",
            "engine_sft.config:LoRA",
            "engine_sft.adapters:build_lora",
            "A low-rank addition to linear layers, by peft.",
            extra="sft",
        ),
        Component(
            "dora",
            "engine_sft.config:DoRA",
            "engine_sft.adapters:build_dora",
            "A low-rank addition and the length of every row, by peft.",
            extra="sft",
        ),
    ]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """How likely held-out answers are."""
    return [
        Component(
            "answer-perplexity",
            "engine_sft.config:AnswerPerplexity",
            "engine_sft.answer_perplexity:build",
            "Perplexity and nats per token of held-out answers.",
        )
    ]
