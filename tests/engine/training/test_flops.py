"""FLOPs of training against torch's own counter and against what others have published."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from engine_lm.shapes import shape as shape_of_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from engine.contracts.amounts import Amount
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.model_sizes import ModelShape, TextLength
from engine.modeling.heads import with_scalar_head
from engine.training.flops import Flops, matrix_flops, token_flops
from engine.training.model_flops import (
    Matrices,
    body_parameters,
    counted,
    multiplied,
    overhead,
)

LLAMA_7B = ModelShape(32, 4096, 32, 32, 11008, 32000, 4096, tied=False)
ROWS, LENGTH = 2, 64
TINY = {
    "llama": {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
    },
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320},
    "mixtral": {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
        "num_local_experts": 4, "num_experts_per_tok": 2,
    },
}  # fmt: skip


@pytest.fixture(params=TINY)
def tiny(request):
    """A model of random weights, its sizes, and what torch counts for a token, frozen parts as they
    are when it is called."""
    config = AutoConfig.for_model(request.param, **TINY[request.param])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    if request.param == "mixtral":
        model.set_experts_implementation("eager")
    model.train()
    ids = torch.randint(320, (ROWS, LENGTH))

    def count() -> float:
        with FlopCounterMode(display=False) as counter:
            # Beside frozen weights gradients still pass to the embedding, as to an adapter.
            embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
            model(inputs_embeds=embedded, labels=ids).loss.backward()
        return counter.get_total_flops() / ids.numel()

    return model, shape_of_config(config.to_dict()), count


def test_flops_are_what_torch_counts(tiny):
    """To 3 %: rotary angles are left out. Torch counts all pairs of positions, we half of them."""
    model, shape, count = tiny
    ours = token_flops(shape, LENGTH)
    assert ours.weights + 2 * ours.attention + ours.head == pytest.approx(count(), rel=0.03)
    model.requires_grad_(False)
    frozen = token_flops(shape, LENGTH, trained=multiplied(model).learning)
    assert frozen.weights + 2 * frozen.attention + frozen.head == pytest.approx(count(), rel=0.03)


def test_the_body_has_all_but_embedding_and_head(tiny):
    """Of a language model, tied or not, and of a reward model, whose body is the same."""
    model, shape, _ = tiny
    everything = sum(p.numel() for p in model.parameters())
    tables = (1 if shape.tied else 2) * 320 * shape.hidden_size
    assert body_parameters(model) == everything - tables
    assert body_parameters(with_scalar_head(model, seed=0)) == everything - tables


def test_flops_of_a_published_model():
    """Llama 2 7B at 4096 tokens: 6 a weight that multiplies, and half of PaLM's attention."""
    weights = 6738415616 - 32000 * 4096 - 65 * 4096
    assert token_flops(LLAMA_7B, 4096).total == 6 * weights + 6 * 32 * 4096 * 4096


def test_what_is_computed_again_is_executed_and_not_the_model_s():
    """Whole layers, or plain attention; a fused kernel's result is kept, and so is the head's."""
    flops = Flops(weights=30, attention=3, head=6)
    assert flops.executed("none", "causal") == flops
    assert flops.executed("full", "none") == Flops(40, 4, 6)
    assert flops.executed("selective", "causal") == Flops(30, 4, 6)
    assert flops.executed("selective", "none") == flops


def test_frozen_weights_need_no_gradients():
    """Four of six FLOPs remain; attention has no weights."""
    whole, frozen = (token_flops(LLAMA_7B, 4096, trained=share) for share in (1, 0))
    assert frozen.weights == pytest.approx(whole.weights * 2 / 3)
    assert frozen.attention == whole.attention


def test_what_learns_is_read_from_the_model():
    """Matrices but an embedding's, unless it is the head's as well."""
    body, head, embedding = nn.Linear(4, 8), nn.Linear(8, 16, bias=False), nn.Embedding(16, 8)
    model = nn.Sequential(embedding, nn.LayerNorm(8), body, head)
    assert multiplied(model) == Matrices(2, 4 * 8 + 8 * 16, 1.0)
    body.weight.requires_grad_(False)
    assert multiplied(model) == Matrices(2, 160, 0.8)
    head.weight = embedding.weight
    assert multiplied(model) == Matrices(2, 160, 0.8)


def test_a_model_of_unknown_sizes_is_counted_by_its_weights():
    """And that is said."""
    train = SimpleNamespace(
        activation_checkpointing="full",
        objective=ObjectiveConfig(),
        budget=Amount(1, "tokens"),
        batch=SimpleNamespace(in_tokens=lambda sequence: sequence),
    )
    stages = {"base": SimpleNamespace(train=None)}
    length = TextLength(64, 64)
    told = counted(stages, "base", train, nn.Linear(4, 8), length, 1, 64, "cpu")
    assert (told.source, told.tokens) == ("weights", 1)
    assert (told.model, told.executed.total) == (matrix_flops(32), 4 / 3 * 6 * 32)


def test_a_router_multiplies_too():
    """Each token by all experts' rows."""
    moe = replace(LLAMA_7B, experts=8, experts_per_token=1)
    more = token_flops(moe, 1).weights - token_flops(LLAMA_7B, 1).weights
    assert more == 6 * 32 * 4096 * 8


def test_small_matrices_make_a_micro_batch_dear():
    """Llamas of 4 layers of 128 and of 8 of 384, of 4,096 words: some 180 and 30 tokens."""
    small, larger = overhead(29, 1_310_720, "cpu"), overhead(57, 15_728_640, "cpu")
    assert 3 < small / larger < 10
    assert 170 < small < 190
    assert 25 < larger < 35
    assert overhead(0, 0, "cpu") == 0
