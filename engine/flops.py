"""FLOPs of training, counted in one place: those that a model is, and those that are executed.

A multiplication with an addition is two. Only products count, as is usual: with weights, of which
a token meets each once in the forward pass and twice in the backward pass, and of attention, causal
and therefore at half of all pairs of positions (Chowdhery et al. 2022, PaLM, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.activations import Recompute, Scores
from engine.layout import ModelShape


@dataclass(frozen=True, slots=True)
class Flops:
    """Of products with the layers' weights, of their attention, and of the head's products."""

    weights: float
    attention: float
    head: float

    @property
    def layers(self) -> float:
        """All but the head's."""
        return self.weights + self.attention

    @property
    def total(self) -> float:
        """The sum."""
        return self.weights + self.attention + self.head

    def times(self, number: float) -> Flops:
        """Of so many tokens, or of a part."""
        return Flops(self.weights * number, self.attention * number, self.head * number)

    def executed(self, recompute: Recompute, scores: Scores) -> Flops:
        """With what a backward pass computes again: whole layers, or attention alone where its
        products are plain ones."""
        whole = 4 / 3 if recompute == "full" else 1
        again = recompute == "full" or (recompute == "selective" and scores != "none")
        return Flops(self.weights * whole, self.attention * (4 / 3 if again else 1), self.head)


def token_flops(shape: ModelShape, sequence: int, *, trained: float = 1) -> Flops:
    """Of a token in training, by the model's sizes.

    ``trained`` is the share of the weights that learn: the others need no gradient of their own, so
    that they are met twice instead of three times.
    """
    hidden, heads = shape.hidden_size, shape.heads * shape.head_width
    keys = shape.kv_heads * shape.head_width
    feed_forward = (3 if shape.gated else 2) * hidden * shape.intermediate_size
    router = hidden * shape.experts if shape.experts > 1 else 0
    layer = 2 * hidden * (heads + keys) + router + shape.experts_per_token * feed_forward
    per_weight = _per_weight(trained)
    return Flops(
        weights=per_weight * shape.layers * layer,
        attention=6 * shape.layers * sequence * heads,
        head=per_weight * shape.vocabulary * hidden,
    )


def matrix_flops(weights: float, *, trained: float = 1) -> Flops:
    """Of a token in training where only the number of weights in matrices is known, experts that a
    token does not meet included: without attention, and the head's among the layers'."""
    return Flops(_per_weight(trained) * weights, 0, 0)


def _per_weight(trained: float) -> float:
    """The product itself, the gradient of its input, and of a weight that learns its own."""
    return 4 + 2 * trained
