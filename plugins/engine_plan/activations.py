"""Formulas for the bytes of activations that a forward pass keeps for the backward pass.

They count, operation by operation, each tensor that some backward pass needs, except parameters, as in
Korthikanti et al. 2022 ("Reducing Activation Recomputation in Large Transformer Models", section 4).
With :data:`MEGATRON` kernels they are the paper's 34·s·b·h + 5·a·s²·b per layer; with :data:`TORCH`
ones they are what transformers' modules keep, which tests measure.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine import ModelShape, Recompute, Scores

BLOCK = 128
"""Queries in a block of the attention that keeps only scores below the diagonal."""
_WIDE = 4
_INDEX = 8


@dataclass(frozen=True, slots=True)
class Kernels:
    """Bytes that an implementation keeps: ``norm`` per element of a normalised tensor (without the
    input of the following product, which is counted there), ``score`` per head and pair of positions
    with a kept score, ``softmax`` per position and head if no scores are kept, and ``mask`` per element
    for dropout after each block.
    """

    norm: float
    score: float
    softmax: float = 0
    mask: float = 0


MEGATRON = Kernels(norm=2, score=5, mask=1)
"""Fused 16-bit norms; per score: softmax 2, its dropout mask 1, dropout's result 2 (section 4.1)."""
TORCH = {
    4: Kernels(norm=8, score=4, softmax=4),
    2: Kernels(norm=6, score=6, softmax=4),
}
"""Keyed by bytes per number. A norm keeps its input in float32, and the result before scaling.
Attention keeps the float32 softmax and, in 16 bits, its copy; a fused kernel keeps only
log-sum-exps."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch: ``rows`` of ``sequence`` tokens in numbers of ``width`` bytes.

    ``tensor`` ranks split each layer and, with ``sequence_parallel``, also the activations between
    products. ``context`` ranks split each row: ``sequence`` counts this rank's tokens; it holds the
    keys and values of whole rows, and no scores.
    """

    rows: int
    sequence: int
    width: int = 2
    scores: Scores = "none"
    tensor: int = 1
    sequence_parallel: bool = False
    context: int = 1

    @property
    def tokens(self) -> int:
        """Tokens in the micro-batch."""
        return self.rows * self.sequence


def layer_bytes(
    shape: ModelShape, work: Pass, recompute: Recompute = "none", kernels: Kernels | None = None
) -> float:
    """Bytes that one layer keeps on each tensor rank."""
    if recompute == "full":
        return _between(work, work.width * shape.hidden_size)
    if recompute == "selective":
        return _products(shape, work)
    kernels = kernels or TORCH[work.width]
    hidden, heads = work.width * shape.hidden_size, shape.heads * shape.head_width
    shared = 2 * (kernels.norm + kernels.mask) * shape.hidden_size + 2 * hidden
    keys = _key_width(shape, work) * work.context
    attention = work.width * (2 * heads + 2 * keys)  # Q, K, V, and the result
    kept = _between(work, shared) + (attention + _feed_forward(shape, work.width)) * (
        work.tokens / work.tensor
    )
    return kept + _scores(shape, work, kernels)


def model_bytes(shape: ModelShape, work: Pass, kernels: Kernels | None = None) -> float:
    """Bytes kept outside the layers: token ids, rotary angles, the last norm, gradients that the loss
    makes in the forward pass (:mod:`engine.modeling.token_loss`; the head's in float32), and attention
    masks with context parallelism."""
    kernels = kernels or TORCH[work.width]
    per_token = (
        _INDEX + 2 * work.width * shape.head_width + (kernels.norm + work.width) * shape.hidden_size
    )
    head = _WIDE * shape.vocabulary * shape.hidden_size / work.tensor
    if work.context > 1:
        per_token += work.width * work.sequence * work.context
    return per_token * work.tokens + head


def _between(work: Pass, per_token: float) -> float:
    """Bytes between products: whole on every tensor rank, or split with sequence parallelism."""
    return per_token * work.tokens / (work.tensor if work.sequence_parallel else 1)


def _key_width(shape: ModelShape, work: Pass) -> int:
    """Width of keys and values; unfused attention repeats them for the query heads that share them."""
    heads = shape.kv_heads if work.scores == "none" else shape.heads
    return heads * shape.head_width


def _feed_forward(shape: ModelShape, width: int) -> float:
    """Bytes per token. A gated block keeps the gate before and after its activation function, the gated
    values, and the product."""
    inside = (4 if shape.gated else 2) * width * shape.intermediate_size
    return inside * shape.experts_per_token


def _scores(shape: ModelShape, work: Pass, kernels: Kernels) -> float:
    if work.scores == "none":
        return kernels.softmax * shape.heads * work.tokens / work.tensor
    if work.scores == "all":
        return kernels.score * shape.heads * work.sequence * work.tokens / work.tensor
    pairs = work.tokens * (work.sequence + min(BLOCK, work.sequence)) / 2
    return kernels.score * shape.heads * pairs / work.tensor + pairs  # plus a mask, a byte per pair


def _products(shape: ModelShape, work: Pass) -> float:
    """Bytes of the layer's input and of its products' results, with fused attention."""
    heads, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    inside = (2 if shape.gated else 1) * shape.intermediate_size * shape.experts_per_token
    split: float = work.width * (heads + 2 * keys + inside)
    if work.scores == "none":
        split += work.width * heads + TORCH[work.width].softmax * shape.heads
    return _between(work, 3 * work.width * shape.hidden_size) + split * work.tokens / work.tensor
