"""Bytes of activations that a forward pass keeps for the backward pass, by formulas.

Counted operation by operation, as Korthikanti et al. 2022 ("Reducing Activation Recomputation in
Large Transformer Models", section 4) do: each tensor once that some backward needs, parameters
left out. With :data:`MEGATRON` kernels the formulas are theirs, 34·s·b·h + 5·a·s²·b a layer; with
:data:`TORCH` ones they are what transformers' modules keep, which tests measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.layout import ModelShape

Scores = Literal["all", "causal", "none"]
"""Which attention scores are kept: of all pairs of positions, of those not above the diagonal, or
none, as in kernels that compute them once more."""
Recompute = Literal["none", "selective", "full"]
"""What the backward pass computes again: nothing, all but the matrix products, or whole layers."""
RECOMPUTED: dict[str | bool, Recompute] = {
    False: "none",
    True: "full",
    "full": "full",
    "selective": "selective",
}
"""By what a spec says of ``activation_checkpointing``."""

LOGITS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits that the loss holds at once (:mod:`engine.logprobs`), 16 and 256 MB in float32: with fewer
rows the products that make the head's gradient are slow (on a CPU a step of 33.5M parameters takes a
tenth longer with half of it), twice as many won nothing. On a GPU each chunk also reads and writes the
head's whole gradient; its number is reckoned from data sheets, not measured."""
BLOCK = 128
"""Queries in a block, where scores are kept below the diagonal only."""
_WIDE = 4
_INDEX = 8


@dataclass(frozen=True, slots=True)
class Kernels:
    """What an implementation keeps: ``norm`` bytes per element of a normalised tensor (the input of
    the product that follows is counted there), ``score`` per kept pair of positions and head,
    ``softmax`` per position and head where no scores are kept, ``mask`` per element for dropout
    after each block.
    """

    norm: float
    score: float
    softmax: float = 0
    mask: float = 0


MEGATRON = Kernels(norm=2, score=5, mask=1)
"""Fused norms in 16 bits; softmax, its dropout mask and what is left, 2 + 1 + 2 (section 4.1)."""
TORCH = {
    4: Kernels(norm=8, score=4, softmax=4),
    2: Kernels(norm=6, score=6, softmax=4),
}
"""By bytes of a number. A norm keeps its input, in float32, and the quotient before it is scaled;
attention the float32 softmax and, where that is another tensor, its narrow copy, or in a fused
kernel the logarithms of its denominators."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One micro-batch: ``rows`` of ``sequence`` tokens in numbers of ``width`` bytes.

    ``tensor`` ranks share each layer; with ``sequence_parallel`` also what lies between products.
    ``context`` ranks share each row: ``sequence`` is of this one, which has everybody's keys and
    values, and no scores.
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
        """In the micro-batch."""
        return self.rows * self.sequence


def layer_bytes(
    shape: ModelShape, work: Pass, recompute: Recompute = "none", kernels: Kernels | None = None
) -> float:
    """Kept by one layer, on one of the tensor ranks."""
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
    """Kept outside the layers: token ids, rotary angles, the last norm, of the loss the gradients
    that it makes on its way (:mod:`engine.logprobs`), the head's in float32, and where ranks share
    rows, who sees whom."""
    kernels = kernels or TORCH[work.width]
    per_token = (
        _INDEX + 2 * work.width * shape.head_width + (kernels.norm + work.width) * shape.hidden_size
    )
    head = _WIDE * shape.vocabulary * shape.hidden_size / work.tensor
    if work.context > 1:
        per_token += work.width * work.sequence * work.context
    return per_token * work.tokens + head


def _between(work: Pass, per_token: float) -> float:
    """What lies between the products, which every tensor rank has, or a part of each row."""
    return per_token * work.tokens / (work.tensor if work.sequence_parallel else 1)


def _key_width(shape: ModelShape, work: Pass) -> int:
    """Of keys and values, each repeated for the heads that share it where products are plain."""
    heads = shape.kv_heads if work.scores == "none" else shape.heads
    return heads * shape.head_width


def _feed_forward(shape: ModelShape, width: int) -> float:
    """Per token: gated, the gate before and after its function, what it gates, and the product."""
    inside = (4 if shape.gated else 2) * width * shape.intermediate_size
    return inside * shape.experts_per_token


def _scores(shape: ModelShape, work: Pass, kernels: Kernels) -> float:
    if work.scores == "none":
        return kernels.softmax * shape.heads * work.tokens / work.tensor
    if work.scores == "all":
        return kernels.score * shape.heads * work.sequence * work.tokens / work.tensor
    pairs = work.tokens * (work.sequence + min(BLOCK, work.sequence)) / 2
    return kernels.score * shape.heads * pairs / work.tensor + pairs  # and a mask, a byte a pair


def _products(shape: ModelShape, work: Pass) -> float:
    """The layer's input and the results of its products; of attention, those of a fused kernel."""
    heads, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    inside = (2 if shape.gated else 1) * shape.intermediate_size * shape.experts_per_token
    split: float = work.width * (heads + 2 * keys + inside)
    if work.scores == "none":
        split += work.width * heads + TORCH[work.width].softmax * shape.heads
    return _between(work, 3 * work.width * shape.hidden_size) + split * work.tokens / work.tensor
