"""Token log-probabilities and cross-entropy from hidden states and head, never all logits at once.

Shapes: T positions (leading dimensions flattened), D hidden width, V vocabulary. Labels are aligned
with the hidden states: nothing is shifted here. Products run in the hidden states' type, the
softmax in float32 (float64 for float64).

A weight that is a DTensor has the rows of some tokens on each rank of its mesh, and the hidden states
are whole: all ranks then get the same values, and each the part of the hidden states' gradient that
comes from its rows (Shoeybi et al. 2019, Megatron-LM).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from engine.contracts.model_sizes import LOGITS
from engine.modeling.loss_chunks import HeadGradients, chunked_loss, chunks, softmax_type
from engine.modeling.output_head import LogitMap, head_parts

IGNORE = -100
_KEPT = 1 << 25
"""Log-probabilities kept for a backward pass, which else computes them again. 128 MB in float32."""


def cross_entropy(
    hidden: Tensor, head: nn.Module | Tensor, labels: Tensor, *, bias: Tensor | None = None
) -> Tensor:
    """Σ −log P(label) over the labels that are not ``IGNORE``, in nats; a float32 scalar.

    ``hidden`` is ``_BTD`` and ``labels`` ``_BT``, or both have other leading dimensions. ``head`` is
    the model's, or the weight ``_VD`` of a plain one, whose ``bias`` then stands beside it.
    The gradients are computed in the forward pass, as :func:`engine.modeling.chunked_loss` does.
    """
    weight_VD, bias, logit_map = _parts(head, bias)
    own_VD, bias, tokens = _own_rows(weight_VD, bias)
    own_VD = _same_type(hidden, own_VD)
    flat_TD, labels_T = hidden.reshape(-1, hidden.shape[-1]), labels.reshape(-1)

    def chunk(part: slice, differentiated: bool) -> tuple[Tensor, Tensor]:
        labels_C = labels_T[part]
        logprob_CV, slope = _log_softmax(flat_TD[part], own_VD, bias, tokens, logit_map)
        loss = -tokens.chosen(logprob_CV, labels_C).sum()
        if not differentiated:
            return loss, logprob_CV
        # d loss / d logits = softmax − one-hot, in the same memory
        grad_CV = logprob_CV.exp_()
        column_C1, mine_C = tokens.find(labels_C, grad_CV.shape[1])
        grad_CV.scatter_add_(1, column_C1, -mine_C[:, None].to(grad_CV.dtype))
        grad_CV.mul_((labels_C != IGNORE)[:, None])
        return loss, grad_CV if slope is None else grad_CV.mul_(slope)

    return chunked_loss(flat_TD, own_VD, bias, _chunk_rows(flat_TD, own_VD), chunk)


def token_logprobs(
    hidden: Tensor,
    head: nn.Module | Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    places_N: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """log P(label) at each position, in nats, 0 where the label is ``IGNORE``; the shape of ``labels``.

    ``hidden`` is ``_BTD`` and ``labels`` ``_BT``, or both have other leading dimensions. ``head`` is
    the model's, or the weight ``_VD`` of a plain one, whose ``bias`` then stands beside it.
    ``places_N`` are what :func:`label_places` finds; without them it looks here, and the process waits
    for its device. P is the softmax of the logits over ``temperature``.

    Differentiable in any use. The head meets only positions with a label; where they are many, their
    logits are computed once more in the backward pass.
    """
    weight_VD, bias, logit_map = _parts(head, bias)
    if temperature != 1 and logit_map is not None:
        logit_map = replace(logit_map, temperature=temperature)
    elif temperature != 1:  # of what makes the logits: fewer numbers than they are
        hidden, bias = hidden / temperature, None if bias is None else bias / temperature
    weight_VD, bias, tokens = _own_rows(weight_VD, bias)
    weight_VD = _same_type(hidden, weight_VD)
    labels_T = labels.reshape(-1)
    if places_N is None:
        places_N = label_places(labels)
    hidden_ND = hidden.reshape(-1, hidden.shape[-1]).index_select(0, places_N)
    apply: Any = _TokenLogprobs.apply
    logprob_N: Tensor = apply(hidden_ND, weight_VD, labels_T[places_N], bias, tokens, logit_map)
    logprob_T = logprob_N.new_zeros(len(labels_T)).index_copy(0, places_N, logprob_N)
    return logprob_T.reshape(labels.shape)


def label_places(labels: Tensor) -> Tensor:
    """Places ``_N`` of the labels that are not ``IGNORE``, in labels of any shape, laid flat."""
    return (labels.reshape(-1) != IGNORE).nonzero()[:, 0]


def _parts(
    head: nn.Module | Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor | None, LogitMap | None]:
    return (head, bias, None) if isinstance(head, Tensor) else head_parts(head)


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
    hidden_CD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    tokens: _Tokens,
    logit_map: LogitMap | None,
) -> tuple[Tensor, Tensor | float | None]:
    """log P of own tokens, normalised over everybody's, and the slope of the map, if there is one."""
    logits_CV = hidden_CD @ weight_VD.T
    if bias_V is not None:
        logits_CV = logits_CV + bias_V
    wide, slope = softmax_type(hidden_CD), None
    if logit_map is not None:
        logits_CV = logit_map(logits_CV.to(wide))
        slope = logit_map.slope(logits_CV)
    if tokens.group is None:
        return logits_CV.log_softmax(1, dtype=wide), slope
    logits_CV = logits_CV.to(wide)
    most_C1 = logits_CV.amax(1, keepdim=True)
    dist.all_reduce(most_C1, dist.ReduceOp.MAX, tokens.group)
    logits_CV -= most_C1
    return logits_CV - tokens.sum(logits_CV.exp().sum(1, keepdim=True)).log(), slope


def _chunk_rows(hidden_TD: Tensor, weight_VD: Tensor) -> int:
    """Positions whose logits are computed at once."""
    most = LOGITS["cpu" if hidden_TD.device.type == "cpu" else "cuda"]
    return max(64, most // weight_VD.shape[0])


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        labels_T: Tensor,
        bias_V: Tensor | None,
        tokens: _Tokens,
        logit_map: LogitMap | None,
    ) -> Tensor:
        few = any(ctx.needs_input_grad) and hidden_TD.shape[0] * weight_VD.shape[0] <= _KEPT
        few &= logit_map is None  # whose slope would be as many numbers
        chosen, kept = [hidden_TD.new_empty(0, dtype=softmax_type(hidden_TD))], []
        for part in chunks(len(hidden_TD), _chunk_rows(hidden_TD, weight_VD)):
            logprob_CV, _ = _log_softmax(hidden_TD[part], weight_VD, bias_V, tokens, logit_map)
            chosen.append(tokens.chosen(logprob_CV, labels_T[part]))
            if few:
                kept.append(logprob_CV)
        ctx.save_for_backward(hidden_TD, weight_VD, labels_T, bias_V, *kept)
        ctx.tokens, ctx.logit_map = tokens, logit_map
        return torch.cat(chosen)

    @staticmethod
    def backward(ctx: Any, grad_T: Tensor) -> tuple[Tensor | None, ...]:
        hidden_TD, weight_VD, labels_T, bias_V, *kept = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[place] for place in (0, 1, 3)]
        gradients = HeadGradients(hidden_TD, weight_VD, bias_V, wanted)
        rows = _chunk_rows(hidden_TD, weight_VD)
        for number, part in enumerate(chunks(len(hidden_TD), rows)):
            slope: Tensor | float | None = None
            if kept:
                grad_CV = kept[number].exp().neg_()
            else:
                logprob_CV, slope = _log_softmax(
                    hidden_TD[part], weight_VD, bias_V, ctx.tokens, ctx.logit_map
                )
                grad_CV = logprob_CV.exp_().neg_()
            column_C1, mine_C = ctx.tokens.find(labels_T[part], grad_CV.shape[1])
            grad_CV.scatter_add_(1, column_C1, mine_C[:, None].to(grad_CV.dtype))
            grad_CV.mul_(grad_T[part, None])
            gradients.add(part, grad_CV if slope is None else grad_CV.mul_(slope))
        weight = gradients.weight_VD
        narrow = None if weight is None else weight.to(weight_VD.dtype)
        return gradients.hidden_TD, narrow, None, gradients.bias_V, None, None
