"""Activations as a forward pass keeps them, against the formulas of the plan."""

from __future__ import annotations

import math

import pytest
import torch
from engine_lm.attention import NAME, use_in_training
from engine_lm.next_token import NextTokenObjective
from engine_plan.activations import Pass, layer_bytes, model_bytes
from support.models import tiny

from engine import Batch, ModelShape
from engine.modeling import ObjectiveModule

SCORES = {"eager": "all", "sdpa": "none", NAME: "causal"}
SHAPE = ModelShape(
    layers=1,
    hidden_size=32,
    heads=2,
    kv_heads=2,
    intermediate_size=96,
    vocabulary=128,
    context=8192,
)


def _kept(shape: ModelShape, attention: str, rows: int, sequence: int, dtype: torch.dtype) -> int:
    """Bytes of all storages that backward will read, parameters left out."""
    model = tiny(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
    ).to(dtype)
    if attention == NAME:
        use_in_training(model)
    else:
        model.set_attn_implementation(attention)
    ids = torch.randint(0, shape.vocabulary, (rows, sequence))
    places = torch.arange(sequence).expand(rows, -1).contiguous()
    inputs = {"input_ids": ids, "position_ids": places}
    batch = Batch(inputs, {"labels": ids}, {"loss": ids.numel()}, ids.numel())
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()  # held, so that no other takes its place
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ObjectiveModule(model, NextTokenObjective())(batch)
    return sum(storage.nbytes() for storage in storages.values())


def _estimated(shape: ModelShape, attention: str, rows: int, sequence: int, width: int) -> float:
    one = Pass(rows, sequence, width, SCORES[attention])
    return shape.layers * layer_bytes(shape, one) + model_bytes(shape, one)


@pytest.mark.parametrize("attention", SCORES)
def test_kept_activations_by_length(attention):
    """From 1k to 8k tokens: within 1 %, quadratic with plain attention, linear with a fused one."""
    lengths = [1024, 2048, 4096, 8192]
    measured = [_kept(SHAPE, attention, 1, length, torch.float32) for length in lengths]
    estimated = [_estimated(SHAPE, attention, 1, length, 4) for length in lengths]
    assert estimated == pytest.approx(measured, rel=0.01)
    growth = measured[3] / measured[2]
    assert growth == pytest.approx(2 if attention == "sdpa" else 4, rel=0.1)


@pytest.mark.parametrize("attention", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_activations_of_narrow_numbers_shared_keys_and_several_rows(attention, dtype):
    """Within 1 %, too."""
    shape = ModelShape(
        layers=3, hidden_size=64, heads=4, kv_heads=2, intermediate_size=160, vocabulary=512,
        context=512,
    )  # fmt: skip
    measured = _kept(shape, attention, 3, 512, dtype)
    assert _estimated(shape, attention, 3, 512, dtype.itemsize) == pytest.approx(measured, rel=0.01)


@pytest.mark.benchmark
def test_growth_with_length():
    """A figure: bytes of a layer by length, on a scale of powers of two; `|` is the formula's."""
    shape = ModelShape(
        layers=1, hidden_size=64, heads=4, kv_heads=4, intermediate_size=192, vocabulary=64,
        context=8192,
    )  # fmt: skip
    print(
        "\nkept of one layer, 1 row, 64 wide, 4 heads, bf16: each column is a quarter of a doubling"
    )
    for attention in SCORES:
        before = None
        for length in (512, 1024, 2048, 4096, 8192):
            measured = _kept(shape, attention, 1, length, torch.bfloat16)
            estimated = _estimated(shape, attention, 1, length, 2)
            bar, mark = (round(4 * math.log2(b / 1e6)) + 8 for b in (measured, estimated))
            line = f"{'━' * bar:<70}"
            line = f"{line[:mark]}|{line[mark + 1 :]}".rstrip()
            growth = f"×{measured / before:.2f}" if before else ""
            assert estimated == pytest.approx(measured, rel=0.01)
            print(f"{attention:>13} {length:>5} {measured / 1e6:8.1f} MB {growth:>6} {line}")
            before = measured
