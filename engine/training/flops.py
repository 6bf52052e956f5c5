"""FLOPs of training: those of the model, and those executed with recomputation.

A multiplication with an addition counts as two. As usual only matrix products count: with weights, once
in the forward pass and twice in the backward pass for each token, and of attention (Chowdhery et al.
2022, PaLM, appendix B). PaLM counts all pairs of positions, 12·L·H·Q·T FLOPs a token; causal attention
needs the half of them that is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.contracts.model_sizes import ModelShape, Recompute, Scores, layer_scale

PRODUCT = {"cpu": 8e6, "cuda": 4e9}
"""Fixed cost of a matrix product, forward and backward together, in multiplications: profiled on CPUs
(DECISIONS); on GPUs estimated as 20 µs in which nothing else runs."""


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

    def plus(self, other: Flops) -> Flops:
        """The FLOPs with those of another computation."""
        return Flops(
            self.weights + other.weights,
            self.attention + other.attention,
            self.head + other.head,
        )

    def executed(self, recompute: Recompute, scores: Scores) -> Flops:
        """The FLOPs with those that the backward pass recomputes: of whole layers, or of attention
        alone if it keeps its scores."""
        whole = 4 / 3 if recompute == "full" else 1
        again = recompute == "full" or (recompute == "selective" and scores != "none")
        return Flops(self.weights * whole, self.attention * (4 / 3 if again else 1), self.head)


FlopsFrom = Literal["model", "sizes", "weights"]
"""How FLOPs are known: counted on the built model, or computed from a transformer's sizes, or estimated
from the number of weights in matrices."""


def flops_from(shape: ModelShape) -> FlopsFrom:
    """How :func:`token_flops` knows the FLOPs of a model of this shape."""
    if shape.forward is not None:
        return "model"
    return "sizes" if shape.parameters is None else "weights"


def token_flops(shape: ModelShape, sequence: float, *, trained: float = 1) -> Flops:
    """Training FLOPs of one token in rows of ``sequence`` tokens: counted on the model, or those of a
    transformer of its sizes. Of a model that is neither, only the exact number of its parameters is
    known: its FLOPs are estimated from its weights, without attention, see :func:`flops_from`.

    ``trained`` is the share of the weights that learn: the others need no gradient of their own, so
    they take part in two products instead of three.
    """
    per_weight, forward = _per_weight(trained), shape.forward
    if forward is not None:
        return Flops(
            weights=per_weight / 2 * forward.weights,
            attention=3 / 2 * sequence * forward.attention,
            head=per_weight / 2 * forward.head,
        )
    hidden, heads = shape.hidden_size, shape.heads * shape.head_width
    keys = shape.kv_heads * shape.head_width
    feed_forward = (3 if shape.gated else 2) * hidden * shape.intermediate_size
    router = hidden * shape.experts if shape.experts > 1 else 0
    layer = 2 * hidden * (heads + keys) + router + shape.experts_per_token * feed_forward
    return Flops(
        weights=per_weight * shape.layers * layer * layer_scale(shape),
        attention=6 * shape.layers * sequence * heads if shape.parameters is None else 0,
        head=per_weight * shape.vocabulary * hidden,
    )


def matrix_flops(weights: float, *, trained: float = 1) -> Flops:
    """Training FLOPs of one token from the number of weights in matrices alone: without attention, with
    the head counted among the layers, and with all experts, used or not."""
    return Flops(_per_weight(trained) * weights, 0, 0)


def pass_flops(shape: ModelShape, device: str) -> float:
    """The fixed cost of a forward pass, which counts most where it reads few tokens: as the FLOPs that
    take as long."""
    matrices = shape.layers * (4 + (3 if shape.gated else 2)) + 1
    return 2 * PRODUCT["cpu" if device == "cpu" else "cuda"] * matrices / 3


def _per_weight(trained: float) -> float:
    """FLOPs per weight: 2 of the product, 2 of its input's gradient, 2 of its own if it learns."""
    return 4 + 2 * trained
