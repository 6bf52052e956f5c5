"""Formulas for what a rank needs to train a model: memory by kind, FLOPs, communication and time.

Model states are sharded as in ZeRO (Rajbhandari et al. 2020, section 5 and table 1); activations are in
:mod:`engine_plan.activations`. All amounts are in bytes and FLOPs, never in multiples of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from engine import (
    LOGITS,
    Flops,
    Layout,
    ModelShape,
    Parameters,
    Precision,
    Recompute,
    Scores,
    pass_flops,
    rank_parameters,
    token_flops,
)
from engine_plan.activations import Pass, layer_bytes, model_bytes
from engine_plan.batches import Batch
from engine_plan.machine import LINKS, Links, Machine
from engine_plan.timed.speeds import Speeds

_FLOAT = 4


@dataclass(frozen=True, slots=True)
class Widths:
    """Bytes per number in compute weights, in gradients, and in master weights (0 if there are
    none)."""

    weight: int
    gradient: int
    master: int


WIDTHS = {"fp32": Widths(4, 4, 0), "bf16": Widths(2, 4, 4), "fp16": Widths(2, 4, 4)}
"""16-bit weights with float32 master weights and float32 gradients."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one rank by kind. ``optimizer`` includes master weights and averages; ``buffers`` are
    short-lived tensors, counted as if they all existed at once."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float = 0
    buffers: float = 0

    @property
    def least(self) -> float:
        """The least memory: all but buffers, at the end of a forward pass."""
        return self.parameters + self.gradients + self.optimizer + self.activations

    @property
    def total(self) -> float:
        """With all."""
        return self.least + self.buffers


@dataclass(frozen=True, slots=True)
class Work:
    """The size of a training step on ``cpu`` or ``cuda``.

    A micro-batch has ``rows`` of ``sequence`` tokens; each rank processes ``micro_batches`` per step.
    ``state_floats`` are optimizer states per parameter of hidden matrices, and of others;
    ``kept_floats`` what penalties keep per parameter. ``averaged``
    keeps a moving average of the weights; ``staged`` copies a checkpoint in this memory before saving;
    ``offload`` moves kept activations elsewhere. Other models have ``frozen`` bytes in all;
    ``companions`` are trained after the model, one after the other. ``batch``: the texts of
    a step; None if micro-batches are full.
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
    kept_floats: float = 0
    averaged: bool = False
    staged: bool = False
    frozen: float = 0
    companions: tuple[ModelShape, ...] = ()
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step needs: the memory of the fullest rank, FLOPs and communication.

    ``flops`` are the model's for the whole step, without recomputation; ``executed`` those of one rank.
    A rank sends ``traffic`` bytes in ``messages`` messages, ``near`` of them within the groups of
    ``neighbours`` consecutive ranks that divide a sample. ``idle`` is the time that a pipeline waits,
    relative to its working time; ``fixed`` the fixed cost of sampling's small products, as the FLOPs of
    layers that take as long.
    """

    memory: Memory
    flops: float
    executed: Flops
    traffic: float
    messages: float
    idle: float
    near: float = 0
    neighbours: int = 1
    fixed: float = 0

    def seconds(self, speeds: Speeds, links: Links | None) -> float:
        """Duration of a step at these speeds, without overlap of communication and computation; without
        communication if ``links`` is None."""
        layers = self.executed.layers + self.fixed
        computing = layers / speeds.layers + self.executed.head / speeds.head
        sent = (self.traffic, self.messages, self.near, self.neighbours)
        sending = links.seconds(*sent) if links else 0
        return computing * (1 + self.idle) + sending

    def cost(self, machine: Machine) -> float:
        """Bytes that a rank sends in a step, plus those that it could send during message latency and
        pipeline waits. Uses constants of the kind of machine rather than measured speeds, so that the
        choice of a strategy is repeatable."""
        links = LINKS[machine.device]
        sending = self.traffic + self.messages * links.latency * links.bandwidth
        return sending + self.executed.total * self.idle / machine.balance


def estimate(work: Work, layout: Layout) -> Estimate:
    """Estimates what the fullest rank of a layout needs."""
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
    beside = _FLOAT * work.kept_floats * mine.all / layout.parameters_over
    layers = math.ceil(shape.layers / layout.pipeline)
    flying = min(layout.pipeline, work.micro_batches)  # in the first stage of a 1F1B schedule
    kept = layers * _layer_bytes(work, one) + model_bytes(shape, one)
    memory = Memory(
        sum(s.parameters for s in states) + work.frozen + beside,
        sum(s.gradients for s in states),
        sum(s.optimizer for s in states),
        0 if work.offload else kept * flying,
        _buffers(work, layout, mine, one),
    )
    learning, others, passes = _flops(work, layout)
    executed = learning.executed(work.recompute, work.scores).plus(others)
    idle = (layout.pipeline - 1) / work.micro_batches
    far, near, messages = _traffic(work, layout, mine, one)
    return Estimate(
        memory,
        learning.plus(others).total,
        _of_rank(executed, shape, layout),
        far + near,
        messages,
        idle,
        near,
        layout.tensor * layout.context,
        passes * pass_flops(shape, work.device),
    )


def _flops(work: Work, layout: Layout) -> tuple[Flops, Flops, float]:
    """FLOPs of a step over all ranks, those of the model's own learning and all others, and the passes
    in which each rank samples."""
    batch = work.batch
    if batch is None:
        tokens = work.rows * work.sequence * work.micro_batches * layout.samples_over
        return token_flops(work.shape, work.sequence).times(tokens), Flops(0, 0, 0), 0
    learning = token_flops(work.shape, batch.length.tokens).times(batch.tokens)
    learning = replace(learning, head=learning.head * batch.at_head)
    return learning, batch.beside, batch.passes(layout.samples_over)


def _of_rank(flops: Flops, shape: ModelShape, layout: Layout) -> Flops:
    """FLOPs that each rank executes: an equal part, and of blocks that tensor ranks do not split what
    all of these do."""
    part, again = flops.times(1 / layout.ranks), layout.tensor - 1
    whole = shape.forward.whole if shape.forward else (0, 0, 0)
    return Flops(
        part.weights * (1 + whole[0] * again), part.attention * (1 + whole[1] * again), part.head
    )


def _layer_bytes(work: Work, one: Pass) -> float:
    """Activations of a layer; those of blocks that tensor ranks do not split are whole."""
    whole = work.shape.forward.whole[2] if work.shape.forward else 0
    unsplit = replace(one, tensor=1)
    return (1 - whole) * layer_bytes(work.shape, one, work.recompute) + whole * layer_bytes(
        work.shape, unsplit, work.recompute
    )


def model_states(
    mine: Parameters,
    layout: Layout,
    widths: Widths,
    state_floats: tuple[float, float],
    *,
    averaged: bool = False,
) -> Memory:
    """Bytes of parameters, gradients and optimizer states on a rank with the parameters ``mine``."""
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
    """Bytes of a checkpoint of these parameters: float32 weights, their average, optimizer states."""
    weights = _FLOAT * (2 if averaged else 1) * mine.all
    return weights + _FLOAT * (state_floats[0] * mine.hidden + state_floats[1] * mine.rest)


def saved_bytes(work: Work, layout: Layout) -> float:
    """Bytes of a checkpoint of all trained models."""
    return sum(
        checkpoint_bytes(its, work.state_floats, averaged=work.averaged)
        for its in _learning(work, layout)
    )


def _learning(work: Work, layout: Layout) -> list[Parameters]:
    """Trained parameters on the fullest rank: the model's, then each companion's."""
    return [rank_parameters(shape, layout) for shape in (work.shape, *work.companions)]


def _buffers(work: Work, layout: Layout, mine: Parameters, one: Pass) -> float:
    shape, widths = work.shape, WIDTHS[work.precision]
    own = shape.vocabulary / layout.tensor
    tokens = work.rows * work.sequence * (work.batch.at_head if work.batch else 1)
    logits = min(max(LOGITS[work.device], 64 * own), tokens * own)
    total = (2 * widths.weight + 2 * _FLOAT) * logits
    if widths.master and layout.gradients_over == 1:  # 16-bit gradients, until they are accumulated
        total += widths.weight * mine.all
    if layout.samples_over > 1 and layout.gradients_over == 1:  # flat communication buckets
        total += widths.gradient * mine.all
    if layout.parameters_over > 1 or not layout.resident:
        # Gathered: embedding, head, this layer, the next one, and a layer's gradient.
        layer = mine.hidden / math.ceil(shape.layers / layout.pipeline)
        total += (2 * widths.weight + widths.gradient) * layer + widths.weight * mine.rest
    if work.recompute != "none" or work.offload:  # the layer in its backward pass
        total += layer_bytes(shape, one)
    if work.staged:
        total += saved_bytes(work, layout) / layout.optimizer_over
    return total


def _traffic(work: Work, layout: Layout, mine: Parameters, one: Pass) -> tuple[float, float, float]:
    """Bytes that a rank sends in a step to ranks far and near, and the number of messages, with optimal
    rings and all-to-alls.

    An all-reduce of gradients sends them twice. Sharded parameters are sent in each pass, and their
    gradients once (ZeRO, section 7). A tensor-parallel layer has four all-reduces (Korthikanti et al.
    2022, section 4.2).
    """
    shape, widths, over = work.shape, WIDTHS[work.precision], layout.parameters_over
    layers = math.ceil(shape.layers / layout.pipeline)
    copies = layout.samples_over * layout.context // over
    gradients = widths.gradient * mine.all
    tokens = one.width * one.tokens
    between, keys = tokens * shape.hidden_size, 2 * tokens * shape.kv_heads * shape.head_width
    routed = between * shape.experts_per_token
    often = work.micro_batches
    far = [  # times, ranks, bytes and messages
        (1, over, gradients * _ring(over), layers),
        (1, copies, 2 * gradients / over * _ring(copies), 1),
        (often, over, 2 * widths.weight * mine.all * _ring(over), 2 * layers),
        (often, layout.pipeline, 4 * between * _ring(layout.pipeline), 2),
        (often, layout.expert, 4 * layers * routed * _ring(layout.expert), 4 * layers),
    ]
    near = [
        (often, layout.tensor, 8 * layers * between * _ring(layout.tensor), 8 * layers),
        (often, layout.context, 3 * layers * keys * (layout.context - 1), 3 * layers),
    ]
    return (
        sum(n * size for n, ranks, size, _ in far if ranks > 1),
        sum(n * size for n, ranks, size, _ in near if ranks > 1),
        sum(n * number for n, ranks, _, number in far + near if ranks > 1),
    )


def _ring(ranks: int) -> float:
    """Share of a tensor that each of ``ranks`` ranks sends in an all-gather or reduce-scatter."""
    return (ranks - 1) / ranks
