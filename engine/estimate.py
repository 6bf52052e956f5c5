"""What a rank needs to train a model: memory by kind, work, traffic and time, by formulas.

States of the model are divided as ZeRO divides them (Rajbhandari et al. 2020, section 5 and table
1); activations are in :mod:`engine.activations`. Bytes and FLOPs, never their multiples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.activations import LOGITS, Pass, Recompute, Scores, layer_bytes, model_bytes
from engine.flops import Flops, token_flops
from engine.layout import Layout, ModelShape
from engine.machine import LINKS, Links, Machine
from engine.products import Precision
from engine.speeds import Speeds

_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Widths:
    """Bytes of a number: of the weights that compute, of gradients, of a master copy (0: none)."""

    weight: int
    gradient: int
    master: int


WIDTHS = {"fp32": Widths(4, 4, 0), "bf16": Widths(2, 4, 4), "fp16": Widths(2, 4, 4)}
"""Narrow weights beside float32 masters, whose gradients are summed in float32."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters: in matrices between embedding and head, and in all others."""

    hidden: float
    rest: float

    @property
    def all(self) -> float:
        """Together."""
        return self.hidden + self.rest


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one rank by kind. ``optimizer`` counts masters and averages, too; ``buffers`` are
    what is there for a moment only, counted as if all of it were there at once."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float = 0
    buffers: float = 0

    @property
    def least(self) -> float:
        """Without buffers: what must be there at the end of a forward pass."""
        return self.parameters + self.gradients + self.optimizer + self.activations

    @property
    def total(self) -> float:
        """With all."""
        return self.least + self.buffers


@dataclass(frozen=True, slots=True)
class Work:
    """A training step on a ``cpu`` or ``cuda``, as far as its size goes.

    ``rows`` of ``sequence`` tokens are in a micro-batch, of which each rank takes ``micro_batches``
    a step. ``state_floats`` are the optimizer's per parameter of hidden matrices and of others;
    ``averaged`` keeps an average of the weights; ``staged`` copies what a checkpoint saves in this
    memory first; ``offload`` takes kept activations elsewhere. Beside the model are ``frozen`` bytes
    of others, and ``companions`` that learn as it does, one after the other.
    """

    shape: ModelShape
    precision: Precision
    rows: int
    sequence: int
    micro_batches: int
    device: str = "cpu"
    scores: Scores = "none"
    recompute: Recompute = "none"
    offload: bool = False
    state_floats: tuple[float, float] = (2, 2)
    averaged: bool = False
    staged: bool = False
    frozen: float = 0
    companions: tuple[ModelShape, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step needs of each rank: the memory of the fullest, work and traffic.

    ``flops`` are the model's, of the whole step and without what is computed again; ``executed``
    those that a rank executes, ``traffic`` bytes that it sends, in so many ``messages``; ``idle`` is
    the share of a step that a pipeline waits beside its work.
    """

    memory: Memory
    flops: float
    executed: Flops
    traffic: float
    messages: float
    idle: float

    def seconds(self, speeds: Speeds, links: Links | None) -> float:
        """Of a step at these speeds, when nothing is sent while something is computed; without what
        is sent where links are not known."""
        computing = self.executed.layers / speeds.layers + self.executed.head / speeds.head
        sending = links.seconds(self.traffic, self.messages) if links else 0
        return computing * (1 + self.idle) + sending

    def cost(self, machine: Machine) -> float:
        """Bytes that a rank sends in a step, or could send while a message starts or it waits for a
        pipeline to fill: a constant of the kind of machine, as a measured speed would differ each
        time, and so would what is chosen by it."""
        links = LINKS[machine.device]
        sending = self.traffic + self.messages * links.latency * links.bandwidth
        return sending + self.executed.total * self.idle / machine.balance


def estimate(work: Work, layout: Layout) -> Estimate:
    """For the fullest rank of this layout."""
    shape, widths = work.shape, WIDTHS[work.precision]
    mine = rank_parameters(shape, layout)
    states = [
        model_states(its, layout, widths, work.state_floats, averaged=work.averaged)
        for its in _learning(work, layout)
    ]
    one = Pass(
        work.rows,
        math.ceil(work.sequence / layout.context),
        widths.weight,
        work.scores if layout.context == 1 else "none",
        layout.tensor,
        sequence_parallel=True,
        context=layout.context,
    )
    layers = math.ceil(shape.layers / layout.pipeline)
    flying = min(layout.pipeline, work.micro_batches)  # of a 1F1B schedule's first stage
    kept = layers * layer_bytes(shape, one, work.recompute) + model_bytes(shape, one)
    memory = Memory(
        sum(s.parameters for s in states) + work.frozen,
        sum(s.gradients for s in states),
        sum(s.optimizer for s in states),
        0 if work.offload else kept * flying,
        _buffers(work, layout, mine, one),
    )
    tokens = work.rows * work.sequence * work.micro_batches * layout.samples_over
    flops = token_flops(shape, work.sequence).times(tokens)
    executed = flops.executed(work.recompute, work.scores).times(1 / layout.ranks)
    idle = (layout.pipeline - 1) / work.micro_batches
    traffic, messages = _traffic(work, layout, mine, one)
    return Estimate(memory, flops.total, executed, traffic, messages, idle)


def parameters(shape: ModelShape) -> int:
    """Of the whole model."""
    return round(rank_parameters(shape, Layout()).all)


def rank_parameters(shape: ModelShape, layout: Layout) -> Parameters:
    """On the fullest rank, before ``shard`` and its like divide them.

    A pipeline's first stage has the embedding, its last the head, tied or not. Experts are parted
    by ``expert`` unless the states are divided over those ranks, too.
    """
    hidden, inside = shape.hidden_size, shape.intermediate_size
    heads, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = 2 * hidden * heads + 2 * hidden * keys
    feed_forward = (3 if shape.gated else 2) * hidden * inside
    router = hidden * shape.experts if shape.experts > 1 else 0
    counted = layout.parameters_over % layout.expert == 0
    experts = shape.experts if counted else math.ceil(shape.experts / layout.expert)
    layers = math.ceil(shape.layers / layout.pipeline)
    matrices = layers * (attention + router + experts * feed_forward) / layout.tensor
    vectors = 2 * hidden
    if shape.biased:
        vectors += 3 * hidden + heads + 2 * keys + experts * (inside + hidden)
    copies = 1 if shape.tied or layout.pipeline > 1 else 2
    rest = copies * shape.vocabulary * hidden / layout.tensor
    return Parameters(matrices, rest + layers * vectors + (2 if shape.biased else 1) * hidden)


def model_states(
    mine: Parameters,
    layout: Layout,
    widths: Widths,
    state_floats: tuple[float, float],
    *,
    averaged: bool = False,
) -> Memory:
    """Parameters, gradients and the optimizer's states of a rank that computes with ``mine``."""
    weight = widths.weight if layout.resident or not widths.master else 0
    master = _FLOAT if layout.mastered else widths.master
    own = (master + (_FLOAT if averaged else 0)) * mine.all
    states = _FLOAT * (state_floats[0] * mine.hidden + state_floats[1] * mine.rest)
    return Memory(
        parameters=weight * mine.all / layout.parameters_over,
        gradients=widths.gradient * mine.all / layout.gradients_over,
        optimizer=(own + states) / layout.optimizer_over,
    )


def checkpoint_bytes(
    mine: Parameters, state_floats: tuple[float, float], *, averaged: bool = False
) -> float:
    """A checkpoint of these parameters: float32 weights, their average, the optimizer's states."""
    weights = _FLOAT * (2 if averaged else 1) * mine.all
    return weights + _FLOAT * (state_floats[0] * mine.hidden + state_floats[1] * mine.rest)


def saved_bytes(work: Work, layout: Layout) -> float:
    """A checkpoint of all that learns."""
    return sum(
        checkpoint_bytes(its, work.state_floats, averaged=work.averaged)
        for its in _learning(work, layout)
    )


def _learning(work: Work, layout: Layout) -> list[Parameters]:
    """On the fullest rank: the model's, and each companion's."""
    return [rank_parameters(shape, layout) for shape in (work.shape, *work.companions)]


def _buffers(work: Work, layout: Layout, mine: Parameters, one: Pass) -> float:
    shape, widths = work.shape, WIDTHS[work.precision]
    own = shape.vocabulary / layout.tensor
    logits = min(max(LOGITS[work.device], 64 * own), work.rows * work.sequence * own)
    total = (2 * widths.weight + 2 * _FLOAT) * logits
    if widths.master and layout.gradients_over == 1:  # narrow ones, until they are added up
        total += widths.weight * mine.all
    if layout.samples_over > 1 and layout.gradients_over == 1:  # flat, on their way
        total += widths.gradient * mine.all
    if layout.parameters_over > 1 or not layout.resident:
        # Embedding and head, and whole layers: this one, the next, and a gradient.
        layer = mine.hidden / math.ceil(shape.layers / layout.pipeline)
        total += (2 * widths.weight + widths.gradient) * layer + widths.weight * mine.rest
    if work.recompute != "none" or work.offload:  # the layer whose backward pass it is
        total += layer_bytes(shape, one)
    if work.staged:
        total += saved_bytes(work, layout) / layout.optimizer_over
    return total


def _traffic(work: Work, layout: Layout, mine: Parameters, one: Pass) -> tuple[float, float]:
    """Bytes that a rank sends in a step, rings and all-to-alls taken at their best, and in how many
    messages.

    Summing gradients takes twice their bytes; gathered parameters are sent in each pass, and their
    gradients once (ZeRO, section 7). A tensor-parallel layer sums four times (Korthikanti et al.
    2022, section 4.2).
    """
    shape, widths, over = work.shape, WIDTHS[work.precision], layout.parameters_over
    layers = math.ceil(shape.layers / layout.pipeline)
    copies = layout.samples_over * layout.context // over
    gradients = widths.gradient * mine.all
    tokens = one.width * one.tokens
    between, keys = tokens * shape.hidden_size, 2 * tokens * shape.kv_heads * shape.head_width
    routed = between * shape.experts_per_token
    once = [  # ranks, bytes and messages
        (over, gradients * _ring(over), layers),
        (copies, 2 * gradients / over * _ring(copies), 1),
    ]
    each = [
        (over, 2 * widths.weight * mine.all * _ring(over), 2 * layers),
        (layout.tensor, 8 * layers * between * _ring(layout.tensor), 8 * layers),
        (layout.pipeline, 4 * between * _ring(layout.pipeline), 2),
        (layout.context, 3 * layers * keys * (layout.context - 1), 3 * layers),
        (layout.expert, 4 * layers * routed * _ring(layout.expert), 4 * layers),
    ]
    times = [(1, *sent) for sent in once] + [(work.micro_batches, *sent) for sent in each]
    return (
        sum(n * size for n, ranks, size, _ in times if ranks > 1),
        sum(n * number for n, ranks, _, number in times if ranks > 1),
    )


def _ring(ranks: int) -> float:
    """Share of a tensor that each of so many ranks sends to gather or scatter it."""
    return (ranks - 1) / ranks
