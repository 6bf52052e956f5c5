"""A layer, and a head with its loss, as in training, for :mod:`engine_plan.timed.speeds` to time.

Shapes: B rows, T positions, D hidden width, H heads, E head width, K key-value heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from engine.hardware import TYPES
from engine.modeling import cross_entropy
from engine_plan.activations import BLOCK
from engine_plan.timed.sample import Sample


def layer(sample: Sample, device: str) -> Callable[[], None]:
    """A function that runs one layer forward and backward."""
    shape, like = sample.shape, _like(sample, device)
    hidden, width = shape.hidden_size, shape.head_width
    queries, keys, inside = shape.heads * width, shape.kv_heads * width, shape.intermediate_size
    sizes = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
    sizes += [*[(inside, hidden)] * (2 if shape.gated else 1), (hidden, inside)]
    weights = [_random(size, like) for size in sizes]
    norms = [like.expand(hidden).clone().requires_grad_() for _ in range(2)]
    x_BTD = _random((sample.rows, sample.sequence, hidden), like)
    angles_TE = like.expand(sample.sequence, width).clone()

    def run() -> None:
        query, key, value, out, *expand, contract = weights
        normed_BTD = _norm(x_BTD, norms[0])
        heads = [
            functional.linear(normed_BTD, weight).unflatten(-1, (-1, width)).transpose(1, 2)
            for weight in (query, key, value)
        ]
        query_BHTE, key_BKTE = (_turn(part, angles_TE) for part in heads[:2])
        plain = sample.scores != "none"
        mixed_BHTE = _attention(query_BHTE, key_BKTE, heads[2], plain=plain)
        between_BTD = x_BTD + functional.linear(mixed_BHTE.transpose(1, 2).flatten(2), out)
        normed_BTD = _norm(between_BTD, norms[1])
        inner = functional.silu(functional.linear(normed_BTD, expand[0]))
        if shape.gated:
            inner = inner * functional.linear(normed_BTD, expand[1])
        result_BTD = between_BTD + functional.linear(inner, contract)
        torch.autograd.grad(result_BTD, [x_BTD, *weights, *norms], result_BTD.detach())
        _finish(device)

    return run


def head(sample: Sample, device: str) -> Callable[[], None]:
    """A function that computes the loss of hidden states and its gradients."""
    shape, like = sample.shape, _like(sample, device)
    hidden_TD = _random((sample.rows * sample.sequence, shape.hidden_size), like)
    weight_VD = _random((shape.vocabulary, shape.hidden_size), like)
    labels_T = torch.arange(len(hidden_TD), device=device) % shape.vocabulary

    def run() -> None:
        loss = cross_entropy(hidden_TD, weight_VD, labels_T)
        torch.autograd.grad(loss, [hidden_TD, weight_VD])
        _finish(device)

    return run


def _like(sample: Sample, device: str) -> Tensor:
    return torch.ones((), dtype=getattr(torch, TYPES[sample.precision]), device=device)


def _random(size: tuple[int, ...], like: Tensor) -> Tensor:
    """A trainable random tensor, as small as new weights. Larger values give attention's softmax
    denormal numbers, which made float32 products three times slower."""
    return (torch.randn(size, device=like.device) / 50).to(like.dtype).requires_grad_()


def _norm(x_BTD: Tensor, weight_D: Tensor) -> Tensor:
    """RMS norm in float32, as in transformers."""
    wide_BTD = x_BTD.float()
    scale_BT1 = torch.rsqrt(wide_BTD.square().mean(-1, keepdim=True) + 1e-6)
    return weight_D * (wide_BTD * scale_BT1).to(x_BTD.dtype)


def _turn(heads_BHTE: Tensor, angles_TE: Tensor) -> Tensor:
    """Rotary positions, as in transformers."""
    first, second = heads_BHTE.chunk(2, -1)
    return heads_BHTE * angles_TE + torch.cat((-second, first), -1) * angles_TE


def _attention(query_BHTE: Tensor, key_BKTE: Tensor, value_BKTE: Tensor, *, plain: bool) -> Tensor:
    """Causal attention: fused, or by products of each block of queries with the keys up to its end."""
    groups = query_BHTE.shape[1] // key_BKTE.shape[1]
    key_BHTE, value_BHTE = (
        part.repeat_interleave(groups, 1).contiguous() for part in (key_BKTE, value_BKTE)
    )
    if not plain:
        return functional.scaled_dot_product_attention(
            query_BHTE, key_BHTE, value_BHTE, is_causal=True
        )
    query_BHTE, blocks = query_BHTE * query_BHTE.shape[-1] ** -0.5, []
    for start in range(0, query_BHTE.shape[2], BLOCK):
        block, end = query_BHTE[:, :, start : start + BLOCK], start + BLOCK
        scores = (block @ key_BHTE[:, :, :end].mT).float()
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        weights = scores.masked_fill(hidden.triu(start + 1), -torch.inf).softmax(-1)
        blocks.append(weights.to(query_BHTE.dtype) @ value_BHTE[:, :, :end])
    return torch.cat(blocks, 2)


def _finish(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
