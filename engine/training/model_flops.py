"""FLOPs per token of a built model, from the sizes in its configuration and the share that learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from engine.contracts.model_sizes import RECOMPUTED
from engine.contracts.spec import Train
from engine.modeling.heads import is_scalar, plain_head
from engine.spec.model_origin import Stages, model_of, shape_of
from engine.training.flops import Flops, matrix_flops, token_flops

_PRODUCT = {"cpu": 8e6, "cuda": 4e9}
"""Fixed cost of a matrix product, forward and backward together, in multiplications: profiled on CPUs
(DECISIONS); on GPUs estimated as 20 µs in which nothing else runs."""


@dataclass(frozen=True, slots=True)
class Counted:
    """FLOPs of the ``model``, and those ``executed`` with recomputation.

    ``source``: counted from the model's ``sizes``, or if these are unknown from its ``weights``,
    without attention.
    """

    model: Flops
    executed: Flops
    source: str

    def times(self, tokens: float) -> Counted:
        """FLOPs of this many tokens."""
        return Counted(self.model.times(tokens), self.executed.times(tokens), self.source)


def counted(
    stages: Stages, name: str, train: Train, model: nn.Module, sequence: int, device: str
) -> Counted:
    """FLOPs of one token in this stage, in rows of ``sequence`` tokens; frozen weights and an adapter's
    base need no gradients."""
    matrices = multiplied(model)
    share = matrices.learning
    shape, origin = shape_of(stages, name), model_of(stages, name)
    again = RECOMPUTED[train.activation_checkpointing]
    if shape is None or origin is None:
        flops = matrix_flops(matrices.weights, trained=share)
        return Counted(flops, flops.executed(again, "none"), "weights")
    flops = token_flops(shape, sequence, trained=share)
    return Counted(flops, flops.executed(again, origin.scores(device)), "sizes")


@dataclass(frozen=True, slots=True)
class Matrices:
    """Matrices that a model multiplies with: their ``number``, their ``weights`` in all, and the share
    ``learning`` of these that learns."""

    number: int
    weights: int
    learning: float


def multiplied(model: nn.Module) -> Matrices:
    """All matrices except an embedding that is not tied to the head."""
    multiply = {
        id(parameter): parameter
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim >= 2
    }
    weights = sum(p.numel() for p in multiply.values())
    trained = sum(p.numel() for p in multiply.values() if p.requires_grad)
    return Matrices(len(multiply), weights, trained / weights if weights else 0.0)


def body_parameters(model: nn.Module) -> int:
    """Parameters that are neither in the embedding of tokens nor in the head."""
    whole = cast("Any", model)
    last: nn.Module | None = whole.score if is_scalar(model) else plain_head(model)
    tables: list[nn.Module | None] = [whole.get_input_embeddings(), last]
    outer = {id(p) for table in tables if table is not None for p in table.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in outer)


def overhead(matrices: int, weights: int, device: str) -> float:
    """Fixed cost of a micro-batch, in tokens, of a model that multiplies with this many ``matrices`` of
    this many ``weights`` in all; largest for small matrices."""
    return _PRODUCT["cpu" if device == "cpu" else "cuda"] * matrices / max(1, weights)
