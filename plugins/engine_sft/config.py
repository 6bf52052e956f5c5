"""Configurations of this plugin's objective, adapters and evaluator."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from engine import (
    BatchWork,
    Config,
    Count,
    EvaluatorConfig,
    Number,
    ObjectiveConfig,
)
from engine_sft.templates import BUILT_IN


class SFT(ObjectiveConfig):
    """Supervised fine-tuning: next-token loss on answers only."""

    takes: ClassVar = frozenset({"chat", "completion"})

    template: str | None = Field(
        None,
        description=f"Chat template: {' or '.join(map(repr, BUILT_IN))}, or a Jinja text that marks "
        "answers by {% generation %}; by default the tokenizer's own. It is saved with the model.",
    )
    turns: Literal["all", "last"] = Field("all", description="Answers of a conversation to learn.")
    packing: bool = Field(
        True, description="Pack several examples into a row, without attention between them."
    )
    neftune: Number | None = Field(
        None, gt=0, description="Noise on token embeddings: the α of NEFTune, usually 5."
    )
    pad_token: str | None = Field(None, description="Token of the vocabulary to use for padding.")

    @field_validator("template")
    @classmethod
    def _known(cls, template: str | None) -> str | None:
        if template is not None and template not in BUILT_IN and "{" not in template:
            raise ValueError(
                f"'{template}' is neither a Jinja text nor one of {', '.join(BUILT_IN)}"
            )
        return template

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: without packing each row is as long as its example."""
        return BatchWork(packed=self.packing, labels_only=True)

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: NEFTune hooks calls of the whole model, which tensor,
        pipeline and context parallelism do not make."""
        if self.neftune is None or train.strategy.check_processes(processes):
            return None
        layout = train.strategy.layout(processes)
        cut = [d for d in ("tensor", "pipeline", "context", "expert") if getattr(layout, d) > 1]
        if not cut:
            return None
        return f"neftune {self.neftune:g} does not work with {cut[0]} {getattr(layout, cut[0])}"


class LoRA(Config):
    """Low-rank adapter W + (alpha / r) · B · A (Hu et al. 2022); B starts at 0."""

    r: Count = Field(16, description="Rank of the added matrices.")
    alpha: Number = Field(32.0, gt=0, description="Numerator of the scale alpha / r.")
    dropout: Number = Field(0.0, ge=0, lt=1, description="Dropout rate on the adapter's inputs.")
    targets: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="Globs of the linear layers to adapt; the head is always left out.",
    )


class DoRA(LoRA):
    """LoRA on the direction of weights, with separately trained row magnitudes (Liu et al. 2024)."""


class AnswerPerplexity(EvaluatorConfig):
    """Perplexity of held-out answers, given their prompts."""

    held_out: ClassVar = True
