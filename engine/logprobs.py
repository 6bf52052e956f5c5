"""Token log-probabilities and cross-entropy from hidden states and head, never all logits at once.

Shapes: T positions (leading dimensions flattened), D hidden width, V vocabulary. Labels are aligned
with the hidden states: nothing is shifted here. Products run in the hidden states' type, the
softmax in float32 (float64 for float64).

A weight that is a DTensor has the rows of some tokens on each rank of its mesh, and the hidden states
are whole: all ranks then get the same values, and each the part of the hidden states' gradient that
comes from its rows (Shoeybi et al. 2019, Megatron-LM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from engine.activations import LOGITS

IGNORE = -100
_KEPT = 1 << 25
"""Log-probabilities kept for a backward pass, which else computes them again. 128 MB in float32."""


def cross_entropy(
    hidden: Tensor, weight_VD: Tensor, labels: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """Σ −log P(label) over the labels that are not ``IGNORE``; a float32 scalar.

    The gradients are made in the forward pass, chunk by chunk, while the logits are there: three
    matrix products instead of the four of recomputation (Hsu et al. 2024, Liger Kernel). Only a
    linear use of the result is therefore cheap: its gradient scales what was kept.
    """
    weight_VD, bias, tokens = _own_rows(weight_VD, bias)
    weight_VD = _same_type(hidden, weight_VD)
    flat_TD = hidden.reshape(-1, hidden.shape[-1])
    apply: Any = _CrossEntropy.apply
    total: Tensor = apply(flat_TD, weight_VD, labels.reshape(-1), bias, tokens)
    return total


def token_logprobs(
    hidden: Tensor,
    weight_VD: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    places_N: Tensor | None = None,
) -> Tensor:
    """log P(label) at each position, 0 where the label is ``IGNORE``; the shape of ``labels``.

    ``places_N`` are what :func:`label_places` finds; without them it looks here, and the process waits
    for its device.

    Differentiable in any use. The head meets only positions with a label; where they are many, their
    logits are computed once more in the backward pass.
    """
    weight_VD, bias, tokens = _own_rows(weight_VD, bias)
    weight_VD = _same_type(hidden, weight_VD)
    labels_T = labels.reshape(-1)
    if places_N is None:
        places_N = label_places(labels)
    hidden_ND = hidden.reshape(-1, hidden.shape[-1]).index_select(0, places_N)
    apply: Any = _TokenLogprobs.apply
    logprob_N: Tensor = apply(hidden_ND, weight_VD, labels_T[places_N], bias, tokens)
    logprob_T = logprob_N.new_zeros(len(labels_T)).index_copy(0, places_N, logprob_N)
    return logprob_T.reshape(labels.shape)


def label_places(labels: Tensor) -> Tensor:
    """Places ``_N`` of the labels that are not ``IGNORE``, in all of them laid flat."""
    return (labels.reshape(-1) != IGNORE).nonzero()[:, 0]


def _own_rows(weight_VD: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor | None, _Tokens]:
    """The rows of this rank, where ranks share them."""
    if not isinstance(weight_VD, DTensor):
        return weight_VD, bias_V, _Tokens()
    group = weight_VD.device_mesh.get_group()
    own_VD = weight_VD.to_local()
    per_rank = -(-weight_VD.shape[0] // dist.get_world_size(group))  # as DTensor cuts
    bias = bias_V.to_local() if isinstance(bias_V, DTensor) else bias_V
    return own_VD, bias, _Tokens(per_rank * dist.get_rank(group), group)


def _same_type(hidden: Tensor, weight_VD: Tensor) -> Tensor:
    return weight_VD if weight_VD.dtype == hidden.dtype else weight_VD.to(hidden.dtype)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens whose rows of the head this rank has, from ``first`` on; all where alone."""

    first: int = 0
    group: dist.ProcessGroup | None = None

    def find(self, labels_C: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Columns ``_C1`` of the labels among ``size`` own tokens, and a ``_C`` mask of those that
        are there; the others have column 0."""
        column_C = labels_C - self.first
        mine_C = (column_C >= 0) & (column_C < size)
        return torch.where(mine_C, column_C, 0)[:, None], mine_C

    def chosen(self, logprob_CV: Tensor, labels_C: Tensor) -> Tensor:
        """log P ``_C`` of the labels, 0 where ``IGNORE``."""
        column_C1, mine_C = self.find(labels_C, logprob_CV.shape[1])
        return self.sum(torch.where(mine_C, logprob_CV.gather(1, column_C1)[:, 0], 0))

    def sum(self, value: Tensor) -> Tensor:
        """Over the ranks, in place."""
        if self.group is not None:
            dist.all_reduce(value, group=self.group)
        return value


def _log_softmax(
    hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, tokens: _Tokens
) -> Tensor:
    """log P of own tokens, normalised over everybody's."""
    logits_CV = hidden_CD @ weight_VD.T
    if bias_V is not None:
        logits_CV = logits_CV + bias_V
    wide = _wide(hidden_CD)
    if tokens.group is None:
        return logits_CV.log_softmax(1, dtype=wide)
    logits_CV = logits_CV.to(wide)
    most_C1 = logits_CV.amax(1, keepdim=True)
    dist.all_reduce(most_C1, dist.ReduceOp.MAX, tokens.group)
    logits_CV -= most_C1
    return logits_CV - tokens.sum(logits_CV.exp().sum(1, keepdim=True)).log()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _chunks(hidden_TD: Tensor, weight_VD: Tensor) -> list[slice]:
    most = LOGITS["cpu" if hidden_TD.device.type == "cpu" else "cuda"]
    rows = max(64, most // weight_VD.shape[0])
    return [slice(i, i + rows) for i in range(0, hidden_TD.shape[0], rows)]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        labels_T: Tensor,
        bias_V: Tensor | None,
        tokens: _Tokens,
    ) -> Tensor:
        wants = ctx.needs_input_grad
        wide = _wide(hidden_TD)
        total = hidden_TD.new_zeros((), dtype=wide)
        grad_hidden_TD = torch.empty_like(hidden_TD) if wants[0] else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=wide) if wants[1] else None
        grad_bias_V = torch.zeros_like(bias_V) if wants[3] and bias_V is not None else None
        for part in _chunks(hidden_TD, weight_VD):
            hidden_CD, labels_C = hidden_TD[part], labels_T[part]
            logprob_CV = _log_softmax(hidden_CD, weight_VD, bias_V, tokens)
            total -= tokens.chosen(logprob_CV, labels_C).sum()
            if not any(wants):
                continue
            # d loss / d logits = softmax − one-hot, in the same memory
            grad_CV = logprob_CV.exp_()
            column_C1, mine_C = tokens.find(labels_C, grad_CV.shape[1])
            grad_CV.scatter_add_(1, column_C1, -mine_C[:, None].to(grad_CV.dtype))
            grad_CV.mul_((labels_C != IGNORE)[:, None])
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
            narrow_CV = grad_CV.to(hidden_TD.dtype)
            if grad_hidden_TD is not None:
                torch.mm(narrow_CV, weight_VD, out=grad_hidden_TD[part])
            if grad_weight_VD is not None:
                grad_weight_VD += narrow_CV.T @ hidden_CD
        ctx.weight_type = weight_VD.dtype
        ctx.save_for_backward(grad_hidden_TD, grad_weight_VD, grad_bias_V)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, bias_V = ctx.saved_tensors
        return (
            None if hidden_TD is None else hidden_TD * scale.to(hidden_TD.dtype),
            None if weight_VD is None else (weight_VD * scale).to(ctx.weight_type),
            None,
            None if bias_V is None else bias_V * scale,
            None,
        )


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        labels_T: Tensor,
        bias_V: Tensor | None,
        tokens: _Tokens,
    ) -> Tensor:
        few = any(ctx.needs_input_grad) and hidden_TD.shape[0] * weight_VD.shape[0] <= _KEPT
        chosen, kept = [hidden_TD.new_empty(0, dtype=_wide(hidden_TD))], []
        for part in _chunks(hidden_TD, weight_VD):
            logprob_CV = _log_softmax(hidden_TD[part], weight_VD, bias_V, tokens)
            chosen.append(tokens.chosen(logprob_CV, labels_T[part]))
            if few:
                kept.append(logprob_CV)
        ctx.save_for_backward(hidden_TD, weight_VD, labels_T, bias_V, *kept)
        ctx.tokens = tokens
        return torch.cat(chosen)

    @staticmethod
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, labels_T, bias_V, *kept = ctx.saved_tensors
        wants = ctx.needs_input_grad
        grad_hidden_TD = torch.empty_like(hidden_TD) if wants[0] else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=grad_T.dtype) if wants[1] else None
        grad_bias_V = torch.zeros_like(bias_V) if wants[3] and bias_V is not None else None
        for number, part in enumerate(_chunks(hidden_TD, weight_VD)):
            hidden_CD = hidden_TD[part]
            if kept:
                grad_CV = kept[number].exp().neg_()
            else:
                grad_CV = _log_softmax(hidden_CD, weight_VD, bias_V, ctx.tokens).exp_().neg_()
            column_C1, mine_C = ctx.tokens.find(labels_T[part], grad_CV.shape[1])
            grad_CV.scatter_add_(1, column_C1, mine_C[:, None].to(grad_CV.dtype))
            grad_CV.mul_(grad_T[part, None])
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
            narrow_CV = grad_CV.to(hidden_TD.dtype)
            if grad_hidden_TD is not None:
                torch.mm(narrow_CV, weight_VD, out=grad_hidden_TD[part])
            if grad_weight_VD is not None:
                grad_weight_VD += narrow_CV.T @ hidden_CD
        narrow = None if grad_weight_VD is None else grad_weight_VD.to(weight_VD.dtype)
        return grad_hidden_TD, narrow, None, grad_bias_V, None
