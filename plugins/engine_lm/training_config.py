"""Configurations of the objective, penalties, optimizers, schedules and perplexity."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from engine import (
    Amount,
    Config,
    Count,
    EvaluatorConfig,
    Number,
    ObjectiveConfig,
    OptimizerConfig,
    PenaltyConfig,
    PenaltyInput,
    Share,
)


class NextToken(ObjectiveConfig):
    """Pre-training: predicts the next token."""

    takes: ClassVar = frozenset({"text"})


class ZLoss(PenaltyConfig):
    """log² Z of the next token's logits, Z their normaliser (Chowdhery et al. 2022, PaLM, section 5):
    keeps logits from drifting."""

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"hidden"})

    weight: Number = Field(1e-4, ge=0, description="Factor on the mean over tokens.")


class DistanceToStart(PenaltyConfig):
    """Half the squared distance of the weights to those at the start of the stage (Li et al. 2018,
    L2-SP): fine-tuning then forgets less."""

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"parameters"})
    kept_floats: ClassVar = 1

    weight: Number = Field(1e-3, ge=0, description="Factor on the sum over all trained weights.")


class AdamW(OptimizerConfig):
    """AdamW (Loshchilov & Hutter 2019), with weight decay on matrices only."""

    betas: tuple[Number, Number] = Field((0.9, 0.95), description="Decay rates of the two moments.")
    eps: Number = Field(1e-8, gt=0, description="Added to the denominator.")

    def state_floats(self, *, hidden: bool) -> float:
        """Two moments."""
        return 2


class AdamW8Bit(AdamW):
    """AdamW with 8-bit moments (Dettmers et al. 2021); 32-bit for vectors and small matrices."""

    elementwise: ClassVar[bool] = False  # blocks of 256 numbers in the whole matrix share a scale

    def state_floats(self, *, hidden: bool) -> float:
        """Two one-byte moments, and the scales of their blocks."""
        return 2 * (1 / 4 + 1 / 256)


class Muon(OptimizerConfig):
    """Muon (Jordan et al. 2024) on hidden matrices, AdamW on the rest.

    Updates are scaled to the size of AdamW's (Liu et al. 2025, equation 4), so ``lr`` carries over.
    """

    elementwise: ClassVar[bool] = False

    momentum: Number = Field(0.95, ge=0, lt=1, description="Nesterov momentum for hidden matrices.")
    adamw_lr_scale: Number = Field(
        1.0, gt=0, description="Learning rate of the other parameters, relative to lr."
    )
    betas: tuple[Number, Number] = Field((0.9, 0.95), description="AdamW's betas, for the rest.")
    eps: Number = Field(1e-8, gt=0, description="AdamW's epsilon, for the rest.")

    def state_floats(self, *, hidden: bool) -> float:
        """One momentum for hidden matrices, two moments for the rest."""
        return 1 if hidden else 2


class Constant(Config):
    """Constant learning rate after a linear warm-up."""

    warmup: Amount = Field(Amount(0.01, "share"), description="Linear rise from 0.")


class WarmupCosine(Config):
    """Linear warm-up, then cosine decay (Loshchilov & Hutter 2017)."""

    warmup: Amount = Field(Amount(0.01, "share"), description="Linear rise from 0.")
    final: Share = Field(0.1, description="Rate at the end, as a share of the peak.")


class WarmupStableDecay(Config):
    """Linear warm-up, constant rate, linear decay (Hu et al. 2024, MiniCPM)."""

    warmup: Amount = Field(Amount(0.01, "share"), description="Linear rise from 0.")
    decay: Share = Field(0.2, gt=0, description="Share of the budget during which the rate decays.")
    final: Share = Field(0.0, description="Rate at the end, as a share of the peak.")


class InverseSqrt(Config):
    """lr · min(t / warmup, sqrt(warmup / t)) (Vaswani et al. 2017, section 5.3)."""

    warmup: Amount = Field(Amount(0.01, "share"), description="t at which the peak is reached.")


class Perplexity(EvaluatorConfig):
    """Perplexity on the held-out documents."""

    held_out: ClassVar = True

    stride: Count | None = Field(
        None,
        description="Tokens scored in each window after the first; the others are context. By default "
        "windows do not overlap, except the last, as in lm-eval.",
    )
