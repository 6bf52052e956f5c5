"""What a spec may set."""

from __future__ import annotations

from engine import Count, ModelConfig, ModelShape
from pydantic import Field, model_validator

CONVOLVED = 4
"""Tokens that the short convolution sees."""


class Hybrid(ModelConfig):
    """A new hybrid: gated linear attention, and full attention with rotary positions in every few
    layers.

    A linear layer keeps a matrix for each head in place of a text's keys and values, so a token
    costs the same in texts of any length; full layers look up what such a state forgets.
    """

    hidden_size: Count = Field(256, description="Width of the residual stream.")
    layers: Count = Field(8, description="Layers of either kind.")
    full_every: Count = Field(4, description="Every such layer has full attention, others linear.")
    heads: Count = Field(4, description="Heads of either kind; must divide hidden_size.")
    intermediate_size: Count | None = Field(
        None, description="Width of the feed-forward block; by default 8/3 of hidden_size."
    )
    context: Count = Field(512, description="Longest sequence, in tokens.")

    @model_validator(mode="after")
    def _divides(self) -> Hybrid:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 · heads = {2 * self.heads}"
            )
        if self.full_every > self.layers:
            raise ValueError(
                f"full_every {self.full_every} leaves no full attention in {self.layers} layers"
            )
        return self

    @property
    def inside(self) -> int:
        """Width of the feed-forward block."""
        return self.intermediate_size or round(self.hidden_size * 8 / 3)

    def context_length(self) -> int:
        """Tokens."""
        return self.context

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes that the fields state, with the exact number of parameters."""
        if vocabulary is None:
            return None
        width = self.hidden_size
        full = self.layers // self.full_every
        both = 3 * width * self.inside + 2 * width  # feed-forward block and norms
        linear = 5 * width**2 + 3 * CONVOLVED * width + (width + 1) * self.heads
        linear += width // self.heads  # the norm of each head's output
        mixers = full * 4 * width**2 + (self.layers - full) * linear
        return ModelShape(
            layers=self.layers,
            hidden_size=width,
            heads=self.heads,
            kv_heads=self.heads,
            intermediate_size=self.inside,
            vocabulary=vocabulary,
            context=self.context,
            parameters=vocabulary * width + width + self.layers * both + mixers,
        )
