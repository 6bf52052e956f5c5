"""FLOPs of a train stage, from the sizes of its models and the lengths of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from engine.contracts.model_sizes import RECOMPUTED, BatchWork, Scores, TextLength
from engine.contracts.objective import Objective
from engine.contracts.spec import Train
from engine.data.examples import TrainingData
from engine.modeling.heads import is_scalar, plain_head
from engine.modeling.packing import IGNORE
from engine.spec.model_origin import Stages, model_of
from engine.training.batch_flops import BatchFlops, batch_flops, readers_of
from engine.training.flops import PRODUCT, Flops, flops_from, matrix_flops

_MEASURED = 256
"""Examples whose mean length counts as that of all."""
_COLLATED = 8
"""Examples that show how many of their tokens have a label."""
_SECOND = 10_000
"""Tokens that a second of a budget in time counts as."""


@dataclass(frozen=True, slots=True)
class Counted:
    """FLOPs of the ``model``, and those ``executed`` with recomputation.

    ``tokens``: learned from, each as often as it is; ``source``: counted on the built ``model``, from a
    transformer's ``sizes``, or from the ``weights`` without attention.
    """

    model: Flops
    executed: Flops
    tokens: float
    source: str

    @property
    def each(self) -> Flops:
        """The model's FLOPs for each token that is learned from."""
        return self.model.times(1 / self.tokens)


def counted(
    stages: Stages,
    name: str,
    train: Train,
    model: nn.Module,
    length: TextLength,
    epoch: int,
    sequence: int,
    device: str,
) -> Counted:
    """FLOPs of this stage's whole budget, with texts of this mean ``length``; an ``epoch`` has so many
    rows of at most ``sequence`` tokens.

    Frozen weights and an adapter's base need no gradients. Sampled answers count as the longest.
    """
    matrices, work = multiplied(model), train.objective.batch_work()
    share = matrices.learning
    readers, origin = readers_of(stages, name, train, share), model_of(stages, name)
    again = RECOMPUTED[train.activation_checkpointing]
    if readers is None:
        learning = matrix_flops(matrices.weights, trained=share).times(length.tokens * work.passes)
        one, source = BatchFlops(learning, Flops(0, 0, 0)), "weights"
    else:
        one, source = batch_flops(work, length, readers), flops_from(readers.model)
    texts = _texts(train, work, length, epoch, sequence)
    scores: Scores = "none" if origin is None else origin.scores(device)
    executed = one.learning.executed(again, scores).plus(one.beside)
    tokens = texts * length.tokens * work.passes
    return Counted(one.all.times(texts), executed.times(texts), tokens, source)


def measured_length(
    work: BatchWork, data: TrainingData, objective: Objective, sequence: int
) -> TextLength:
    """The mean length of the first texts; sampled answers count as the longest."""
    if work.answer_tokens is not None:
        prompts = data.examples(_MEASURED)
        prompt = sum(example.length for example in prompts) / max(1, len(prompts))
        return TextLength(prompt + work.answer_tokens, work.answer_tokens)
    share = 1.0
    if work.labels_only:
        batch = objective.collate(data.examples(_COLLATED))
        share = int((batch.targets["labels"] != IGNORE).sum()) / max(1, batch.tokens)
    if work.packed:
        return TextLength(sequence, sequence * share)
    examples = data.examples(_MEASURED)
    tokens = sum(example.length for example in examples) / max(1, len(examples) * work.texts)
    return TextLength(tokens, tokens * share)


def _texts(train: Train, work: BatchWork, length: TextLength, epoch: int, sequence: int) -> float:
    """The texts in the budget, roughly: a time counts as so many tokens a second."""
    of_row = work.texts * length.tokens * work.passes
    rows: Mapping[str, float] = {
        "tokens": 1 / of_row,
        "steps": train.batch.in_tokens(sequence) / sequence / work.steps,
        "epochs": epoch,
        "seconds": _SECOND / of_row,
    }
    return work.texts * train.budget.value * rows[train.budget.unit]


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
    return PRODUCT["cpu" if device == "cpu" else "cuda"] * matrices / max(1, weights)
