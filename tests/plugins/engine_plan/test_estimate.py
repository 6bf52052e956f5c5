"""Formulas of memory, FLOPs and traffic against what others have published."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_plan.estimate import (
    Widths,
    Work,
    checkpoint_bytes,
    estimate,
    model_states,
)
from engine_plan.machine import LINKS, Machine
from engine_plan.timed.speeds import Speeds

from engine import (
    ForwardFlops,
    Layout,
    ModelShape,
    Parameters,
    parameter_count,
    rank_parameters,
)

GPT2 = ModelShape(12, 768, 12, 12, 3072, 50257, 1024, gated=False, biased=True)
LLAMA_7B = ModelShape(32, 4096, 32, 32, 11008, 32000, 4096, tied=False)
LLAMA_70B = ModelShape(80, 8192, 64, 8, 28672, 32000, 4096, tied=False)
MIXTRAL = ModelShape(
    32, 4096, 32, 8, 14336, 32000, 32768, tied=False, experts=8, experts_per_token=2
)
WORK = Work(LLAMA_7B, "bf16", rows=1, sequence=4096, micro_batches=8)


@pytest.mark.parametrize(
    ("over", "gigabytes"),
    [((1, 1, 1), 120), ((1, 1, 64), 31.4), ((1, 64, 64), 16.6), ((64, 64, 64), 1.88)],
    ids=["no ZeRO", "stage 1", "stage 2", "stage 3"],
)
def test_model_states_as_zero_divides_them(over, gigabytes):
    """Rajbhandari et al. 2020, figure 1: 7.5B parameters on 64 ranks, Adam in mixed precision."""
    layout = Layout(
        data=64, parameters_over=over[0], gradients_over=over[1], optimizer_over=over[2]
    )
    mixed = Widths(weight=2, gradient=2, master=4)  # K = 12 with the two moments
    states = model_states(Parameters(7.5e9, 0), layout, mixed, (2, 2))
    assert states.total / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("over", "gigabytes"), [((1, 1, 1), 16), ((1, 1, 4), 7), ((1, 4, 4), 5.5), ((4, 4, 4), 4)]
)
def test_model_states_of_small_worlds(over, gigabytes):
    """The paper's table 1, the row of 4 ranks: 7.5B parameters, 120, 52.5, 41.3 and 30 GB."""
    layout = Layout(data=4, parameters_over=over[0], gradients_over=over[1], optimizer_over=over[2])
    states = model_states(Parameters(7.5e9, 0), layout, Widths(2, 2, 4), (2, 2))
    assert states.total / 1e9 == pytest.approx(7.5 * gigabytes)


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        (GPT2, 124.44e6 - 1024 * 768),
        (LLAMA_7B, 6738415616),
        (LLAMA_70B, 68976648192),
        (MIXTRAL, 46702792704),
    ],
    ids=["gpt2 without positions", "llama-2 7B", "llama-2 70B", "mixtral 8x7B"],
)
def test_parameters_of_published_models(shape, published):
    """As their cards say, to the last one; GPT-2's is rounded."""
    assert parameter_count(shape) == pytest.approx(published, abs=3000 if shape is GPT2 else 0)


def test_narrow_training_keeps_float32_masters():
    """2 + 4 + 4 + 8 bytes a parameter; float32 takes 4 + 4 + 8, an average 4 more."""
    per_parameter = {}
    for precision in ("bf16", "fp16", "fp32"):
        for averaged in (False, True):
            work = replace(WORK, precision=precision, averaged=averaged)
            memory = estimate(work, Layout()).memory
            states = memory.parameters + memory.gradients + memory.optimizer
            per_parameter[precision, averaged] = states / parameter_count(LLAMA_7B)
    assert per_parameter == {
        ("bf16", False): 18, ("fp16", False): 18, ("fp32", False): 16,
        ("bf16", True): 22, ("fp16", True): 22, ("fp32", True): 20,
    }  # fmt: skip


def test_degrees_divide_a_model():
    """Tensor ranks matrices but experts, pipeline ranks layers, expert ranks experts: each once."""
    whole = rank_parameters(LLAMA_7B, Layout())
    assert rank_parameters(LLAMA_7B, Layout(tensor=4)).hidden == whole.hidden / 4
    staged = rank_parameters(LLAMA_7B, Layout(pipeline=4))
    assert staged.hidden == whole.hidden / 4
    assert staged.rest == pytest.approx(whole.rest / 2, rel=0.01)  # of embedding and head, one
    split, experts = rank_parameters(MIXTRAL, Layout(tensor=4)).hidden, 8 * 3 * 4096 * 14336
    assert split == 32 * ((2 * 4096 + 2 * 1024) * 4096 / 4 + 8 * 4096 + experts)
    apart = rank_parameters(MIXTRAL, Layout(expert=8)).hidden
    over = rank_parameters(MIXTRAL, Layout(expert=8, parameters_over=8)).hidden
    assert apart < 0.16 * over  # attention stays whole
    assert over == rank_parameters(MIXTRAL, Layout()).hidden


def test_what_each_layout_saves_and_sends():
    """FSDP divides states for half as much traffic again; a pipeline waits; rows are shared."""
    alone = estimate(WORK, Layout())
    copies = estimate(WORK, Layout(data=8))
    one = replace(WORK, micro_batches=1)
    sharded = estimate(one, Layout(shard=8, parameters_over=8, gradients_over=8, optimizer_over=8))
    piped = estimate(WORK, Layout(pipeline=8))
    context = estimate(WORK, Layout(context=8))
    assert alone.traffic == 0
    gradients = 4 * parameter_count(LLAMA_7B)
    assert copies.traffic == pytest.approx(2 * gradients * 7 / 8)
    # Narrow parameters in both passes, and float32 gradients: 4 + 4 bytes, where copies sum 8.
    assert sharded.traffic == pytest.approx(copies.traffic)
    assert sharded.memory.parameters == alone.memory.parameters / 8
    assert copies.memory.optimizer == alone.memory.optimizer
    assert (alone.idle, piped.idle) == (0, 7 / 8)
    machine, speeds = Machine("cpu", "", 1e9, 8), Speeds(1e12, 1e12)
    computing = piped.executed.total / 1e12 * (1 + 7 / 8)
    assert piped.seconds(speeds, None) == pytest.approx(computing)
    sending = piped.traffic / 1e9 + piped.messages * 1e-3
    assert piped.seconds(speeds, LINKS["cpu"]) == pytest.approx(computing + sending)
    assert alone.cost(machine) == 0 < copies.cost(machine) < piped.cost(machine)
    # An eighth of a row; keys, values and who sees whom of whole rows; the head's gradient.
    tokens, width, wide = WORK.sequence // 8, 2, 4
    head = wide * LLAMA_7B.vocabulary * LLAMA_7B.hidden_size
    others = 2 * width * LLAMA_7B.layers * 4096 * 7 * tokens + width * tokens * WORK.sequence
    assert context.memory.activations == pytest.approx(
        (alone.memory.activations - head) / 8 + head + others, rel=1e-9
    )
    assert copies.flops == 8 * alone.flops
    assert copies.executed.total == pytest.approx(alone.executed.total)


def test_ranks_that_divide_a_sample_are_near():
    """What they send stays in their machine, and only the rest waits for the network."""
    both = estimate(WORK, Layout(data=2, tensor=8))
    alone, copies = estimate(WORK, Layout(tensor=8)), estimate(WORK, Layout(data=2))
    assert (both.neighbours, copies.neighbours, copies.near) == (8, 1, 0)
    assert both.near == alone.near == alone.traffic > 0
    assert both.traffic - both.near == pytest.approx(
        copies.traffic / 8, rel=0.01
    )  # norms are whole
    speeds, links = Speeds(1e15, 1e15), Machine.elsewhere("A100-80GB", 16).links
    computing = both.executed.total / 1e15
    sending = both.near / 300e9 + (both.traffic - both.near) / 25e9
    waiting = both.messages * links.latency
    assert both.seconds(speeds, links) == pytest.approx(computing + sending + waiting)


def test_small_messages_are_dear():
    """A tiny model's gradients are one message; a layer's parts are several each."""
    tiny = replace(WORK, shape=ModelShape(2, 32, 2, 2, 128, 320, 32), sequence=32)
    machine = Machine("cpu", "", 1e9, 2)
    copies, parts = (estimate(tiny, layout) for layout in (Layout(data=2), Layout(tensor=2)))
    assert parts.messages == 8 * 2 * 8
    assert copies.cost(machine) < parts.cost(machine)


def test_recomputation_costs_a_third_and_offloading_nothing():
    """Of the layers' work, for a fraction of the activations."""
    plain = estimate(WORK, Layout())
    full = estimate(replace(WORK, recompute="full"), Layout())
    away = estimate(replace(WORK, offload=True), Layout())
    assert full.executed.layers == pytest.approx(plain.executed.layers * 4 / 3)
    assert full.executed.head == plain.executed.head
    assert full.flops == plain.flops
    assert full.memory.activations < 0.15 * plain.memory.activations
    assert full.memory.buffers > plain.memory.buffers
    assert (away.memory.activations, away.executed) == (0, plain.executed)


def test_checkpoints():
    """Float32 weights and both moments: 12 bytes a parameter, 16 with an average."""
    mine = Parameters(3e6, 1e6)
    assert checkpoint_bytes(mine, (2, 2)) == 48e6
    assert checkpoint_bytes(mine, (1, 2), averaged=True) == 8 * 4e6 + 4 * 5e6


def test_ranks_execute_whole_what_tensor_does_not_split():
    """Of a layer's products and attention, as well as its parameters and activations."""
    forward = ForwardFlops(3e9, 1e6, 1e8, whole=(0.25, 1, 0.5))
    work = replace(WORK, shape=replace(LLAMA_7B, forward=forward))
    alone, parts = (estimate(work, Layout(tensor=n)) for n in (1, 4))
    assert parts.flops == alone.flops
    assert parts.executed.weights == alone.executed.weights * (0.25 + 0.75 / 4)
    assert parts.executed.attention == alone.executed.attention
    assert parts.executed.head == alone.executed.head / 4
    assert alone.memory.parameters / 4 < parts.memory.parameters < alone.memory.parameters
    split = estimate(WORK, Layout(tensor=4)).memory.activations
    assert split < parts.memory.activations < alone.memory.activations
