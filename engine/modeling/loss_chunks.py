"""Losses over the vocabulary, computed chunk by chunk: only one chunk's logits exist at a time.

Shapes: T positions, C of them in a chunk, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Chunk = Callable[[slice, bool], tuple[Tensor, Tensor]]
"""Given a chunk's positions, and whether a gradient is wanted: the sum of the chunk's losses, and the
gradient ``_CV`` of that sum with respect to the logits, which may be anything where none is wanted."""


def chunked_loss(
    hidden_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, rows: int, chunk: Chunk
) -> Tensor:
    """The sum of ``chunk`` over chunks of ``rows`` positions; a float32 scalar, float64 for float64.

    ``chunk`` runs without autograd. The gradients of the hidden states, the weight and the bias are
    computed in the forward pass, while the logits exist: three matrix products instead of the four of
    recomputation (Hsu et al. 2024, Liger Kernel). The backward pass only scales them, so that a
    second derivative is not available.
    """
    apply: Any = _ChunkedLoss.apply
    total: Tensor = apply(hidden_TD, weight_VD, bias_V, rows, chunk)
    return total


class HeadGradients:
    """Adds up the gradients of the hidden states and of the head's weight and bias over chunks.

    ``wanted`` says which of the three are computed; the others are None. The weight's gradient adds
    up in the type of the softmax.
    """

    def __init__(
        self, hidden_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        self._inputs = hidden_TD, weight_VD
        hidden, weight, bias = wanted
        self.hidden_TD = torch.empty_like(hidden_TD) if hidden else None
        self.weight_VD = (
            torch.zeros_like(weight_VD, dtype=softmax_type(hidden_TD)) if weight else None
        )
        self.bias_V = torch.zeros_like(bias_V) if bias and bias_V is not None else None

    def add(self, part: slice, grad_CV: Tensor) -> None:
        """Adds the gradients that follow from the gradient of a chunk's logits."""
        hidden_TD, weight_VD = self._inputs
        if self.bias_V is not None:
            self.bias_V += grad_CV.sum(0)
        narrow_CV = grad_CV.to(hidden_TD.dtype)
        if self.hidden_TD is not None:
            torch.mm(narrow_CV, weight_VD, out=self.hidden_TD[part])
        if self.weight_VD is not None:
            self.weight_VD += narrow_CV.T @ hidden_TD[part]


def chunks(positions: int, rows: int) -> Iterator[slice]:
    """Slices of at most ``rows`` positions."""
    return (slice(start, start + rows) for start in range(0, positions, rows))


def softmax_type(hidden: Tensor) -> torch.dtype:
    """The type in which the softmax and sums over chunks are computed."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        rows: int,
        chunk: Chunk,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3]
        total = hidden_TD.new_zeros((), dtype=softmax_type(hidden_TD))
        gradients = HeadGradients(hidden_TD, weight_VD, bias_V, wanted)
        for part in chunks(len(hidden_TD), rows):
            loss, grad_CV = chunk(part, any(wanted))
            total += loss
            if any(wanted):
                gradients.add(part, grad_CV)
        ctx.weight_type = weight_VD.dtype
        ctx.save_for_backward(gradients.hidden_TD, gradients.weight_VD, gradients.bias_V)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, bias_V = ctx.saved_tensors
        return (
            None if hidden_TD is None else hidden_TD * scale.to(hidden_TD.dtype),
            None if weight_VD is None else (weight_VD * scale).to(ctx.weight_type),
            None if bias_V is None else bias_V * scale,
            None,
            None,
        )
