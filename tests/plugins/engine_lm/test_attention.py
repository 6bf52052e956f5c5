"""Attention and loss of the models equal what the papers write, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from engine_lm import attention as module
from engine_lm.attention import attention, use_in_training
from engine_lm.shapes import WITH_BLOCKS
from support.internals import document_bounds
from support.models import tiny
from torch import Tensor

from engine.modeling import hidden_states


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, position_ids: Tensor, window: int | None = None
) -> Tensor:
    """softmax(Q·Kᵀ/√d_k)·V (Vaswani et al. 2017, equation 1), row by row, key by key; ``_BTHE``. A
    window of W has the last W keys (Jiang et al. 2023, Mistral 7B)."""
    rows, heads, length, width = query.shape
    shared = heads // key.shape[1]
    out = []
    for b in range(rows):
        for h in range(heads):
            for i in range(length):
                first = i - min(int(position_ids[b, i]), (window or length) - 1)
                k, v = (x[b, h // shared, first : i + 1] for x in (key, value))
                out.append(torch.softmax(k @ query[b, h, i] / math.sqrt(width), 0) @ v)
    return torch.stack(out).view(rows, heads, length, width).transpose(1, 2)


def _positions(length: int, *starts: int) -> Tensor:
    positions = torch.arange(length)
    for start in starts:
        positions[start:] = torch.arange(length - start)
    return positions


@pytest.fixture(params=["blocks", "documents", "documents of torch 2.11"])
def way(request, monkeypatch):
    """How attention is computed: in blocks, or by torch's kernel for documents of several lengths. That
    is for GPUs only: a stand-in computes here what its documentation says."""
    if request.param != "blocks":
        monkeypatch.setattr(module, "_GROUPED", request.param == "documents")
        monkeypatch.setattr(module, "varlen_attn", _as_documented)
        monkeypatch.setattr(module, "_NARROW", (torch.float64,))
    return request.param


def _as_documented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    bounds_k: Tensor,
    longest: int,
    longest_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool = False,
) -> Tensor:
    """Tensors ``_THE`` of documents end to end; a window of (left, right) keys beside a query's own."""
    assert bounds.dtype == torch.int32
    assert enable_gqa == (query.shape[1] != key.shape[1])
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    parts = []
    for start, end in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        assert end - start <= longest
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        left, right = window_size
        place = torch.arange(end - start)
        apart = place[:, None] - place
        hidden = (apart < -right) | ((apart > left) if left >= 0 else False)
        scores = (q @ k.mT * scale).masked_fill(hidden, -torch.inf)
        parts.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 1, 20, 140])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("starts", [((), ()), ((3, 4, 150), (200,))])
def test_attention_is_what_the_paper_says(kv_heads, starts, window, way):
    """Values and gradients; packed or not, grouped or not, over several blocks and a part of one."""
    torch.manual_seed(0)
    length, width = 210, 8
    query = torch.randn(2, 4, length, width, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(2, kv_heads, length, width, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    position_ids = torch.stack([_positions(length, *s) for s in starts])
    ids = torch.arange(2 * length).view(2, length)
    bounds = torch.from_numpy(document_bounds(ids.numpy(), position_ids.numpy()))
    found, _ = attention(
        torch.nn.Module(),
        query, key, value, None,
        scaling=width**-0.5,
        position_ids=position_ids,
        sliding_window=window,
        cu_seq_lens_q=None if way == "blocks" else bounds,
    )  # fmt: skip
    expected = _written_out(query, key, value, position_ids, window)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    weight = torch.randn_like(expected)
    ours, theirs = (
        torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (found, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_without_position_ids_a_row_is_one_document():
    """As transformers means it."""
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 2, 9, 4, dtype=torch.float64) for _ in range(3))
    found, _ = attention(torch.nn.Module(), q, k, v, None, scaling=0.5)
    torch.testing.assert_close(found, _written_out(q, k, v, _positions(9)[None]))


@pytest.mark.parametrize("architecture", sorted(WITH_BLOCKS))
def test_architectures_compute_what_transformers_own_attention_does(architecture):
    """Packed: hidden states and gradients are those with ``sdpa``, windows included. In float64, and in
    float32 for experts, whose products torch has in no wider type."""
    model = _tiny(architecture)
    experts = any("experts" in name for name, _ in model.named_parameters())
    model.to(torch.float32 if experts else torch.float64)
    tolerance = 1e-4 if experts else 1e-9
    ids = torch.randint(0, 64, (2, 40))
    position_ids = torch.stack([_positions(40, 9, 10, 30), _positions(40)])
    weight_D = torch.randn(32)

    def run(implementation):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        hidden = hidden_states(model, input_ids=ids, position_ids=position_ids)
        (hidden * weight_D).sum().backward()
        return [hidden, *(p.grad for p in model.base_model.parameters())]

    use_in_training(model)
    assert model.config._attn_implementation == module.NAME
    for ours, theirs in zip(run(module.NAME), run("sdpa"), strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def _tiny(architecture):
    return tiny(
        architecture,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        head_dim=8,
        pad_token_id=0,
        sliding_window=6,
        use_sliding_window=True,
        max_window_layers=2,
        initializer_range=0.3,
    )


@pytest.mark.parametrize("recompute", [False, "selective", "full"])
def test_bounds_reach_the_kernel(recompute, tiny_spec, run_here, monkeypatch):
    """From the batch through transformers' layers, as on a GPU, of packed texts and padded answers: the
    losses are those of blocks."""
    base = tiny_spec["stages"]["base"]["train"]
    base["model"]["context"] = 64
    base |= {"evaluate": [], "budget": "3 steps", "activation_checkpointing": recompute}
    tuned = {
        "model": "base",
        "objective": {"type": "sft", "packing": False},
        "data": {"type": "python-questions"},
        "limit": 24,
        "batch": {"examples": 4},
    }
    tiny_spec["stages"]["tuned"] = {"train": {**base, **tuned}}
    blocks = run_here(tiny_spec, runs="blocks").steps("loss")
    asked = []

    def kernel(*laid, **options):
        asked.append(laid[3])
        return _as_documented(*laid, **options)

    monkeypatch.setattr("engine.modeling.heads.takes_bounds", lambda device: True)
    monkeypatch.setattr(module, "varlen_attn", kernel)
    monkeypatch.setattr(module, "_NARROW", (torch.float32,))
    documents = run_here(tiny_spec, runs="documents").steps("loss")
    assert documents == pytest.approx(blocks, rel=1e-5)
    assert len(asked) >= 6
    assert {len(bounds) - 1 for bounds in asked} <= {4**k for k in range(8)}
