"""Configurations of the objective, the adapters and the evaluator."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine import Config, Count, EvaluatorConfig, Number, ObjectiveConfig
from engine_sft.templates import BUILT_IN


class SFT(ObjectiveConfig):
    """Supervised fine-tuning: the next token, in answers only."""

    takes: ClassVar = frozenset({"chat", "completion"})

    template: str | None = Field(
        None,
        description=f"Chat template: {' or '.join(map(repr, BUILT_IN))}, or a Jinja text that marks "
        "answers by {% generation %}; without it, the tokenizer's own. It stays with the model.",
    )
    turns: Literal["all", "last"] = Field(
        "all", description="Answers of a conversation that are learnt."
    )
    packing: bool = Field(
        True, description="Put several examples into a row, where they do not see each other."
    )
    neftune: Number | None = Field(
        None, gt=0, description="Noise on embedded tokens, as NEFTune's α; 5 is usual."
    )
    pad_token: str | None = Field(
        None, description="Token of the vocabulary that becomes the tokenizer's padding."
    )

    @field_validator("template")
    @classmethod
    def _known(cls, template: str | None) -> str | None:
        if template is not None and template not in BUILT_IN and "{" not in template:
            raise ValueError(
                f"'{template}' is neither a Jinja text nor one of {', '.join(BUILT_IN)}"
            )
        return template

    def check_train(self, train: Any, processes: int) -> str | None:
        """Noise is added where the whole model is called, which some degrees never do."""
        if self.neftune is None or train.strategy.check_processes(processes):
            return None
        layout = train.strategy.layout(processes)
        cut = [d for d in ("tensor", "pipeline", "context", "expert") if getattr(layout, d) > 1]
        if not cut:
            return None
        return f"neftune {self.neftune:g} does not work with {cut[0]} {getattr(layout, cut[0])}"


class LoRA(Config):
    """W + (alpha / r) · B · A (Hu et al. 2022), B starting at 0."""

    r: Count = Field(16, description="Rank: rows of A.")
    alpha: Number = Field(32.0, gt=0, description="Numerator of the factor on the addition.")
    dropout: Number = Field(0.0, ge=0, lt=1, description="Share of its inputs that are left out.")
    targets: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="Globs of linear layers that are added to; the head never is.",
    )


class DoRA(LoRA):
    """LoRA on the weight's direction, its length by row learnt apart (Liu et al. 2024)."""


class AnswerPerplexity(EvaluatorConfig):
    """Perplexity of held-out answers, given their prompts."""

    held_out: ClassVar = True
