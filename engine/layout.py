"""Sizes of models and degrees of parallelism, as plain numbers.

What memory, time and traffic are computed from, and what says whether a model can be split so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder-only transformer.

    ``gated`` feed-forward blocks have three matrices, others two. ``experts`` counts feed-forward
    blocks per layer, of which ``experts_per_token`` work on a token. ``context`` is in tokens.
    ``head_size`` is the width of a head where it is not ``hidden_size / heads``.
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

    @property
    def head_width(self) -> int:
        """Of each head's queries, keys and values."""
        return self.head_size or self.hidden_size // self.heads


@dataclass(frozen=True, slots=True)
class Beside:
    """Models that an objective has beside the one that learns: stages whose models they are, or None
    for a copy of its own.

    ``frozen`` ones are as narrow as training, ``asked`` ones float32, both whole on every rank;
    ``trained`` ones have a scalar head and the same strategy.
    """

    frozen: tuple[str | None, ...] = ()
    asked: tuple[str | None, ...] = ()
    trained: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """How ranks share a training step; the product of the six degrees is their number.

    ``data`` ranks hold copies; ``shard`` ranks parts of everything, gathered layer by layer;
    ``tensor`` ranks parts of every matrix; ``pipeline`` ranks runs of layers; ``context`` ranks parts
    of every row; ``expert`` ranks some of the experts, and samples of their own.

    The other three say over how many ranks each kind of state is divided beside tensor, pipeline
    and expert degrees: FSDP divides all by ``shard``, ZeRO-1 only the optimizer's by ``data``.
    Narrow weights are ``resident`` beside float32 masters, or made from them for each layer's work;
    ``mastered`` keeps such masters beside float32 weights, too.
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
        """Processes in all."""
        return self.data * self.shard * self.tensor * self.pipeline * self.context * self.expert

    @property
    def samples_over(self) -> int:
        """Ranks that read samples of their own."""
        return self.data * self.shard * self.expert
