"""FLOPs of any architecture, counted without numbers, are those that torch counts with them."""

from __future__ import annotations

import pytest
import torch
from engine_lm.trials.tiny_config import tiny_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from engine import Layout, ModelShape, flops_from, forward_flops, rank_parameters, token_flops

LENGTH, SHORT = 256, 64
KINDS = (
    "llama gemma3_text mixtral qwen3_moe deepseek_v3 minimax lfm2 jamba granitemoehybrid "
    "qwen3_next falcon_h1 mamba mamba2 rwkv recurrent_gemma"
).split()
"""Attention, with windows, latent, linear or in some layers; mixtures of experts, some with shared ones
or in some layers; convolutions, scans and recurrences."""
SHAPE = ModelShape(2, 32, 4, 4, 48, 64, 512)


def _model(kind: str, device: str) -> nn.Module:
    config = AutoConfig.for_model(kind, **tiny_config(kind), vocab_size=64)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def _on_a_cpu(kind: str, length: int) -> float:
    """What torch counts of a forward pass for each token of a row of this length."""
    model = _model(kind, "cpu")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    ids = torch.randint(64, (1, length))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False)
    return counter.get_total_flops() / length


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_counted_on_the_model(kind):
    """To 3 %, whatever the layers are made of."""
    found = forward_flops(_model(kind, "meta"))
    length = SHORT if kind == "rwkv" else LENGTH  # whose numbers take a second
    whole = found.weights + length * found.attention + found.head
    assert whole == pytest.approx(_on_a_cpu(kind, length), rel=0.03)
    assert found.head == 2 * 64 * 32


def test_what_does_not_run_without_numbers_is_estimated():
    """From its weights, without attention, and that is told."""
    assert forward_flops(_model("xlstm", "meta")) is None
    shape = ModelShape(2, 32, 4, 4, 48, 64, 512, parameters=30_000)
    assert (flops_from(shape), token_flops(shape, 64).attention) == ("weights", 0)


def test_training_takes_three_passes_and_half_of_all_pairs():
    """As with FLOPs from sizes: attention is causal."""
    found = forward_flops(_model("llama", "meta"))
    counted = ModelShape(2, 32, 4, 2, 48, 64, 512, head_size=8, forward=found)
    plain = ModelShape(2, 32, 4, 2, 48, 64, 512, head_size=8)
    assert (flops_from(counted), flops_from(plain)) == ("model", "sizes")
    ours, theirs = token_flops(counted, 64), token_flops(plain, 64)
    assert ours.attention == pytest.approx(theirs.attention)
    assert ours.head == theirs.head
    assert ours.weights == pytest.approx(theirs.weights, rel=0.01)  # rotary angles


def test_blocks_that_a_tensor_plan_leaves_out_are_known():
    """The latent attention of DeepSeek, whose experts work on the rank's own positions. Nothing of a
    Llama, nor of a Mamba, which has no plan and is refused."""
    shares = {k: forward_flops(_model(k, "meta")).whole for k in ("llama", "mamba", "deepseek_v3")}
    assert shares["llama"] == shares["mamba"] == (0, 0, 0)
    weights, attention, parameters = shares["deepseek_v3"]
    assert attention == 1
    assert 0.05 < parameters < weights < 0.9


def test_ranks_hold_whole_blocks_that_are_not_split():
    """Parameters of the others are divided."""
    found = forward_flops(_model("deepseek_v3", "meta"))
    shape = ModelShape(2, 32, 4, 4, 48, 64, 512, forward=found)
    whole, part = (rank_parameters(shape, Layout(tensor=n)).hidden for n in (1, 4))
    unsplit = found.whole[2]
    assert part == pytest.approx(whole * (unsplit + (1 - unsplit) / 4))
