"""Attention and loss of the models equal what the papers write, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from engine_lm.attention import attention
from torch import Tensor


def _written_out(query: Tensor, key: Tensor, value: Tensor, position_ids: Tensor) -> Tensor:
    """softmax(Q·Kᵀ/√d_k)·V (Vaswani et al. 2017, equation 1), row by row, key by key; ``_BTHE``."""
    rows, heads, length, width = query.shape
    shared = heads // key.shape[1]
    out = []
    for b in range(rows):
        for h in range(heads):
            for i in range(length):
                first = i - int(position_ids[b, i])
                k, v = (x[b, h // shared, first : i + 1] for x in (key, value))
                out.append(torch.softmax(k @ query[b, h, i] / math.sqrt(width), 0) @ v)
    return torch.stack(out).view(rows, heads, length, width).transpose(1, 2)


def _positions(length: int, *starts: int) -> Tensor:
    positions = torch.arange(length)
    for start in starts:
        positions[start:] = torch.arange(length - start)
    return positions


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("starts", [((), ()), ((3, 4, 150), (200,))])
def test_attention_is_what_the_paper_says(kv_heads, starts):
    """Values and gradients; packed or not, grouped or not, over several blocks and a part of one."""
    torch.manual_seed(0)
    length, width = 210, 6
    query = torch.randn(2, 4, length, width, dtype=torch.float64, requires_grad=True)
    key, value = (
        torch.randn(2, kv_heads, length, width, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    position_ids = torch.stack([_positions(length, *s) for s in starts])
    found, _ = attention(
        torch.nn.Module(),
        query, key, value, None,
        scaling=width**-0.5,
        position_ids=position_ids,
    )  # fmt: skip
    expected = _written_out(query, key, value, position_ids)
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
