"""FLOPs of training: those of the model, and those executed with recomputation.

A multiplication with an addition counts as two. As usual only matrix products count: with weights, once
in the forward pass and twice in the backward pass for each token, and of attention, which is causal and
so covers half of all pairs of positions (Chowdhery et al. 2022, PaLM, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.contracts.model_sizes import ModelShape, Recompute, Scores, layer_scale


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of products with the layers' weights, of attention, and of products with the head."""

    weights: float
    attention: float
    head: float

    @property
    def layers(self) -> float:
        """FLOPs of all but the head."""
        return self.weights + self.attention

    @property
    def total(self) -> float:
        """FLOPs in all."""
        return self.weights + self.attention + self.head

    def times(self, number: float) -> Flops:
        """The FLOPs multiplied by a number of tokens, or by a fraction."""
        return Flops(self.weights * number, self.attention * number, self.head * number)

    def executed(self, recompute: Recompute, scores: Scores) -> Flops:
        """The FLOPs with those that the backward pass recomputes: of whole layers, or of attention
        alone if it keeps its scores."""
        whole = 4 / 3 if recompute == "full" else 1
        again = recompute == "full" or (recompute == "selective" and scores != "none")
        return Flops(self.weights * whole, self.attention * (4 / 3 if again else 1), self.head)


def token_flops(shape: ModelShape, sequence: int, *, trained: float = 1) -> Flops:
    """Training FLOPs of one token in rows of ``sequence`` tokens, from the model's sizes.

    ``trained`` is the share of the weights that learn: the others need no gradient of their own, so
    they take part in two products instead of three.
    """
    hidden, heads = shape.hidden_size, shape.heads * shape.head_width
    keys = shape.kv_heads * shape.head_width
    feed_forward = (3 if shape.gated else 2) * hidden * shape.intermediate_size
    router = hidden * shape.experts if shape.experts > 1 else 0
    layer = 2 * hidden * (heads + keys) + router + shape.experts_per_token * feed_forward
    per_weight = _per_weight(trained)
    return Flops(
        weights=per_weight * shape.layers * layer * layer_scale(shape),
        attention=6 * shape.layers * sequence * heads,
        head=per_weight * shape.vocabulary * hidden,
    )


def matrix_flops(weights: float, *, trained: float = 1) -> Flops:
    """Training FLOPs of one token from the number of weights in matrices alone: without attention, with
    the head counted among the layers, and with all experts, used or not."""
    return Flops(_per_weight(trained) * weights, 0, 0)


def _per_weight(trained: float) -> float:
    """FLOPs per weight: 2 of the product, 2 of its input's gradient, 2 of its own if it learns."""
    return 4 + 2 * trained
