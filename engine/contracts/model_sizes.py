"""Sizes of models and degrees of parallelism, as plain numbers.

From these, memory, time and traffic are estimated, and it is checked whether a model can be split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

SEQUENCE = 1024
"""Default tokens in a row, if neither spec nor model determines it."""
MICRO_TOKENS = 8192
"""Default tokens in one forward pass on one rank."""

LOGITS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits that the loss holds at once (:mod:`engine.modeling.token_loss`): 16 and 256 MB in float32.

On a CPU, half as many make a step of a 33.5M-parameter model a tenth slower, since the matrix products
of the head's gradient get too few rows; twice as many are no faster. On a GPU each chunk also reads and
writes the head's whole gradient; that number was computed from data sheets, not measured."""

Scores = Literal["all", "causal", "none"]
"""Attention scores kept for the backward pass: of all pairs of positions, of those not above the
diagonal, or none, as with kernels that recompute them."""
Recompute = Literal["none", "selective", "full"]
"""What the backward pass recomputes: nothing, all but the products with weights, or whole layers."""
RECOMPUTED: dict[str | bool, Recompute] = {
    False: "none",
    True: "full",
    "full": "full",
    "selective": "selective",
}
"""The recomputation that each value of a spec's ``activation_checkpointing`` means."""


def micro_rows(micro_tokens: int | None, sequence: int) -> int:
    """Rows in one forward pass, at least one; ``sequence``: tokens in a row."""
    return max(1, (micro_tokens or MICRO_TOKENS) // sequence)


@dataclass(frozen=True, slots=True)
class ForwardFlops:
    """FLOPs of a model's forward pass for each token, counted operation by operation.

    ``weights``: products in the layers that do not depend on the row's length; ``attention``: those
    that do, for each position of the row, as if every position attended to all; ``head``: the output
    head. ``whole``: the shares of ``weights``, ``attention`` and the layers' parameters that belong to
    blocks which no tensor-parallel plan splits.
    """

    weights: float
    attention: float
    head: float
    whole: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder-only transformer.

    ``gated``: feed-forward blocks have three matrices, else two. ``tied``: embedding and head share
    their weights. ``experts``: feed-forward blocks per layer; each token passes ``experts_per_token``
    of them. ``context`` is in tokens. ``head_size``: width of a head if not ``hidden_size / heads``.
    ``parameters``: exact number in the whole model, where it is known; the other sizes then say how
    they are divided. ``forward``: FLOPs counted on the model, where the sizes do not tell them.
    """

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    intermediate_size: int
    vocabulary: int
    context: int
    gated: bool = True
    tied: bool = True
    biased: bool = False
    experts: int = 1
    experts_per_token: int = 1
    head_size: int | None = None
    parameters: int | None = None
    forward: ForwardFlops | None = None

    @property
    def head_width(self) -> int:
        """Width of each head's queries, keys and values."""
        return self.hidden_size // self.heads if self.head_size is None else self.head_size


@dataclass(frozen=True, slots=True)
class Beside:
    """Models that an objective needs beside the stage's own, each as the name of its stage; None for a
    copy of the stage's own model.

    ``frozen`` models have the precision of training, ``asked`` ones float32; every rank holds both
    whole. ``trained`` models have a scalar head and are split by the stage's strategy.
    """

    frozen: tuple[str | None, ...] = ()
    asked: tuple[str | None, ...] = ()
    trained: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What an objective computes with the rows of one global batch, for estimates of FLOPs and time.

    ``packed``: rows are filled with texts; else each row becomes ``texts`` texts, such as the two
    answers of a pair. ``answer_tokens``: the model samples an answer of at most so many tokens for each
    text, scores it once, and models that are :class:`Beside` it read it once; None if all texts come
    from the data. Each text is learned from in ``passes`` passes over ``steps`` optimizer steps.
    ``reads``: further passes without gradient over each text, of the model and of each frozen one.
    ``labels_only``: the output head meets only positions with a label.
    """

    packed: bool = True
    texts: int = 1
    answer_tokens: int | None = None
    passes: int = 1
    steps: int = 1
    reads: tuple[int, int] = (0, 1)
    labels_only: bool = False


@dataclass(frozen=True, slots=True)
class TextLength:
    """Mean length of the texts of a stage, in tokens, and how many of these meet the output head."""

    tokens: float
    at_head: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Degrees of parallelism; the product of the six is the number of ranks.

    ``data``: replicas; ``shard``: shards of all state, gathered layer by layer; ``tensor``: parts of
    every matrix; ``pipeline``: groups of consecutive layers; ``context``: parts of every row;
    ``expert``: groups of experts, each with its own samples.

    ``parameters_over``, ``gradients_over`` and ``optimizer_over``: number of ranks that each kind of
    state is divided over, in addition to tensor, pipeline and expert degrees. FSDP divides all three
    by ``shard``, ZeRO-1 only the optimizer's by ``data``. ``resident``: 16-bit weights stay in memory
    beside their float32 masters; else they are cast from them for each layer. ``mastered``: master
    copies exist beside float32 weights, too.
    """

    data: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    parameters_over: int = 1
    gradients_over: int = 1
    optimizer_over: int = 1
    resident: bool = True
    mastered: bool = False

    @property
    def ranks(self) -> int:
        """Total number of ranks."""
        return self.data * self.shard * self.tensor * self.pipeline * self.context * self.expert

    @property
    def samples_over(self) -> int:
        """Number of ranks, or groups of ranks, that read different samples."""
        return self.data * self.shard * self.expert


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameter counts: ``hidden`` in matrices between embedding and head, ``rest`` in all others."""

    hidden: float
    rest: float

    @property
    def all(self) -> float:
        """Total number of parameters."""
        return self.hidden + self.rest


def parameter_count(shape: ModelShape) -> int:
    """Number of parameters of the whole model."""
    return round(rank_parameters(shape, Layout()).all)


def layer_scale(shape: ModelShape) -> float:
    """What the matrices of layers hold, relative to those of a plain transformer of these sizes."""
    if shape.parameters is None:
        return 1.0
    plain = _plain_parameters(shape, Layout())
    return max(0.0, 1 + (shape.parameters - plain.all) / plain.hidden)


def rank_parameters(shape: ModelShape, layout: Layout) -> Parameters:
    """Parameters on the rank that has the most, before the division by ``parameters_over``."""
    plain = _plain_parameters(shape, layout)
    hidden = plain.hidden
    if shape.forward is not None and layout.tensor > 1:
        whole = shape.forward.whole[2]
        unsplit = _plain_parameters(shape, replace(layout, tensor=1)).hidden
        hidden = (1 - whole) * hidden + whole * unsplit
    return Parameters(layer_scale(shape) * hidden, plain.rest)


def _plain_parameters(shape: ModelShape, layout: Layout) -> Parameters:
    """Those of a plain transformer of these sizes.

    A pipeline's first stage has the embedding, its last the head, tied or not. Experts are divided
    by ``expert`` unless ``parameters_over`` already counts those ranks, and not by ``tensor``.
    """
    hidden, inside = shape.hidden_size, shape.intermediate_size
    heads, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = 2 * hidden * heads + 2 * hidden * keys
    feed_forward = (3 if shape.gated else 2) * hidden * inside
    router = hidden * shape.experts if shape.experts > 1 else 0
    counted = layout.parameters_over % layout.expert == 0
    experts = shape.experts if counted else math.ceil(shape.experts / layout.expert)
    layers = math.ceil(shape.layers / layout.pipeline)
    whole = router + experts * feed_forward if shape.experts > 1 else 0
    split = attention + (0 if shape.experts > 1 else feed_forward)
    matrices = layers * (split / layout.tensor + whole)
    vectors = 2 * hidden
    if shape.biased:
        vectors += 3 * hidden + heads + 2 * keys + experts * (inside + hidden)
    copies = 1 if shape.tied or layout.pipeline > 1 else 2
    rest = copies * shape.vocabulary * hidden / layout.tensor
    return Parameters(matrices, rest + layers * vectors + (2 if shape.biased else 1) * hidden)
