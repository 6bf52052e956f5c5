"""FLOPs of what an objective computes with a global batch: learning, reading and sampling texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.contracts.model_sizes import BatchWork, ModelShape, TextLength
from engine.contracts.spec import Train
from engine.spec.model_origin import Stages, shape_of
from engine.training.flops import Flops, token_flops

_FORWARD = 1 / 3
"""Share of a forward pass in the FLOPs of training."""


@dataclass(frozen=True, slots=True)
class Readers:
    """Sizes of the models that read texts: the ``model`` that is trained, those ``frozen``, and those
    ``asked`` and ``trained`` with a scalar head, as in :class:`engine.Beside`.

    ``scalar``: the model itself has a scalar head. ``share`` of its weights learns.
    """

    model: ModelShape
    frozen: Sequence[ModelShape] = ()
    asked: Sequence[ModelShape] = ()
    trained: Sequence[ModelShape] = ()
    scalar: bool = False
    share: float = 1


def readers_of(stages: Stages, name: str, train: Train, share: float = 1) -> Readers | None:
    """The models that read the texts of a stage, of which ``share`` of the weights learns; None if the
    size of one is unknown. Builds models without their weights, which may take seconds."""
    own, beside = shape_of(stages, name, built=True), train.objective.beside()

    def shapes(names: Sequence[str | None]) -> list[ModelShape] | None:
        found = [own if s is None else shape_of(stages, s, built=True) for s in names]
        known = [shape for shape in found if shape is not None]
        return known if len(known) == len(found) else None

    frozen, asked, trained = map(shapes, (beside.frozen, beside.asked, beside.trained))
    if own is None or frozen is None or asked is None or trained is None:
        return None
    scalar = train.objective.head == "scalar"
    return Readers(own, frozen, asked, trained, scalar=scalar, share=share)


@dataclass(frozen=True, slots=True)
class BatchFlops:
    """FLOPs with one text: of the model's own ``learning``, and ``beside`` those of models that learn
    with it and of all passes without gradient, in which answers are sampled, too."""

    learning: Flops
    beside: Flops

    @property
    def all(self) -> Flops:
        """The sum of both."""
        return self.learning.plus(self.beside)


def batch_flops(work: BatchWork, length: TextLength, readers: Readers) -> BatchFlops:
    """FLOPs with each text of a batch, in all passes over it.

    A head with a single output counts nothing. A prompt that several answers have in common is counted
    for each of them.
    """

    def once(shape: ModelShape, *, scalar: bool, share: float = 1) -> Flops:
        flops = token_flops(shape, length.tokens, trained=share).times(length.tokens)
        met = 0 if scalar else length.at_head / length.tokens
        return replace(flops, head=flops.head * met)

    own = once(readers.model, scalar=readers.scalar, share=readers.share).times(work.passes)
    read = once(readers.model, scalar=readers.scalar).times(_FORWARD)
    beside = read.times(work.reads[0])
    for shape in readers.frozen:
        beside = beside.plus(once(shape, scalar=False).times(_FORWARD * work.reads[1]))
    for shape in readers.trained:
        beside = beside.plus(once(shape, scalar=True).times(work.passes))
    if work.answer_tokens is None:
        return BatchFlops(own, beside)
    for shape in (*readers.asked, *readers.trained):
        beside = beside.plus(once(shape, scalar=True).times(_FORWARD))
    return BatchFlops(own, beside.plus(read))
