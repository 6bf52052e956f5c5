"""FLOPs of a token for a model that is there: by the sizes in its configuration and by what learns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from engine.activations import RECOMPUTED
from engine.flops import Flops, matrix_flops, token_flops
from engine.shapes import Stages, model_of, shape_of
from engine.spec import Train


@dataclass(frozen=True, slots=True)
class Counted:
    """Of the model, those ``executed`` with what is computed again, and ``source``: counted from the
    model's ``sizes``, or where these are not known from its ``weights``, without attention."""

    model: Flops
    executed: Flops
    source: str

    def times(self, tokens: float) -> Counted:
        """Of so many tokens."""
        return Counted(self.model.times(tokens), self.executed.times(tokens), self.source)


def counted(
    stages: Stages, name: str, train: Train, model: nn.Module, sequence: int, device: str
) -> Counted:
    """Of a token in this stage, in rows of ``sequence`` tokens; frozen weights and an adapter's base
    need no gradients."""
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
    """Those that a model multiplies with: how many, of how many ``weights`` in all, of which the share
    ``learning`` learns."""

    number: int
    weights: int
    learning: float


def multiplied(model: nn.Module) -> Matrices:
    """All matrices but an embedding's that is not the head's as well."""
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
