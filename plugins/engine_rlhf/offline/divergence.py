"""The divergence between the distributions of a teacher and a student, computed chunk by chunk.

Shapes: N positions that count, C of them at a time, V vocabulary, D and E hidden widths of student and
teacher.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.modeling import LogitMap, chunked_loss

HeadParts = tuple[Tensor, Tensor | None, LogitMap | None]
"""Weight ``_VD``, bias ``_V`` and logit map, as :func:`engine.modeling.head_parts` returns them."""

_LOGITS = 1 << 20
"""Logits of student and of teacher held at once: 4 MB each in float32, about a cache."""
_LEAST_ROWS = 64
"""Positions at a time, at least: products of fewer are slow."""


def divergence(
    hidden_ND: Tensor,
    head: HeadParts,
    teacher_NE: Tensor,
    teacher_head: HeadParts,
    *,
    share: float,
    temperature: float,
) -> Tensor:
    """Σ over positions of D(teacher, student) in nats; a float32 scalar.

    With p the teacher's and q the student's distribution at this temperature and m = β·p + (1 − β)·q,
    D is β·KL(p ‖ m) + (1 − β)·KL(q ‖ m) for a ``share`` β between 0 and 1 (Agarwal et al. 2023,
    equation 1), KL(p ‖ q) for 0 and KL(q ‖ p) for 1, as in TRL. Rows that only one of the two
    heads has are padding, and are left out.

    The gradients are computed in the forward pass, as :func:`engine.modeling.chunked_loss` does; the
    teacher gets none.
    """
    size = min(len(head[0]), len(teacher_head[0]))
    own = _first(head, size, hidden_ND.dtype)
    other = _first(teacher_head, size, teacher_head[0].dtype)

    def chunk(part: slice, _: bool) -> tuple[Tensor, Tensor]:
        logits_CV = _logits(hidden_ND[part], own)
        log_q_CV = (logits_CV / temperature).log_softmax(1)
        log_p_CV = (_logits(teacher_NE[part], other) / temperature).log_softmax(1)
        loss_C, grad_CV = _derived(log_p_CV, log_q_CV, share)
        grad_CV.div_(temperature)
        logit_map = own[2]
        return loss_C.sum(), grad_CV if logit_map is None else grad_CV * logit_map.slope(logits_CV)

    rows = max(_LEAST_ROWS, _LOGITS // size)
    return chunked_loss(hidden_ND, own[0], own[1], rows, chunk)


def _first(head: HeadParts, size: int, dtype: torch.dtype) -> HeadParts:
    """The rows of a head for its first tokens."""
    weight, bias, logit_map = head
    return weight[:size].to(dtype), None if bias is None else bias[:size], logit_map


def _derived(log_p_CV: Tensor, log_q_CV: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The divergence ``_C`` and its gradient ``_CV`` with respect to the logits of q."""
    p_CV, q_CV = log_p_CV.exp(), log_q_CV.exp()
    if share == 0:
        return (p_CV * (log_p_CV - log_q_CV)).sum(1), q_CV - p_CV
    if share == 1:
        log_m_CV, teachers_C = log_p_CV, torch.zeros_like(log_p_CV[:, 0])
    else:
        # Of logarithms, as both probabilities may be too small for float32.
        log_m_CV = torch.logaddexp(log_p_CV + math.log(share), log_q_CV + math.log1p(-share))
        teachers_C = share * (p_CV * (log_p_CV - log_m_CV)).sum(1)
    # Both have d D / d q = w·log(q / m) up to a constant, where w is the weight of KL(q ‖ m).
    weight = 1.0 if share == 1 else 1 - share
    ratio_CV = log_q_CV - log_m_CV
    students_C = (q_CV * ratio_CV).sum(1)
    return teachers_C + weight * students_C, weight * q_CV * (ratio_CV - students_C[:, None])


def _logits(hidden_CD: Tensor, head: HeadParts) -> Tensor:
    weight_VD, bias_V, logit_map = head
    logits_CV = hidden_CD @ weight_VD.T
    if bias_V is not None:
        logits_CV = logits_CV + bias_V
    logits_CV = logits_CV.float()
    return logits_CV if logit_map is None else logit_map(logits_CV)
