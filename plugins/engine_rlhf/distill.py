"""Distillation: a student learns a teacher's distribution of every next token.

Shapes: B rows, T positions, N positions that count, C of them at a time, V vocabulary, D and E hidden
widths of student and teacher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine import (
    BaseObjective,
    Batch,
    Completion,
    Context,
    Example,
    Record,
    SpecError,
    Text,
    document_tokens,
    head,
    hidden_states,
    label_places,
    labelled_rows,
)
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline_config import Distill
from engine_rlhf.pairs import TOO_LONG, Ints, tokens, written

_LOGITS = 1 << 20
"""Logits of student and of teacher held at once: 4 MB each in float32, about a cache."""
_LEAST_ROWS = 64
"""Positions at a time, at least: products of fewer are slow."""


class DistillObjective(DropoutOff, BaseObjective):
    """The divergence between the teacher's and the student's next token, in nats, over answers and
    texts: see :func:`divergence`."""

    takes = Distill.takes
    head = Distill.head

    def __init__(self, config: Distill, context: Context) -> None:
        self._config, self._teacher = config, context.artifact(config.teacher)

    def check(self, tokenizer: Any) -> None:
        """Raises SpecError where the teacher's tokens are others."""
        if self._teacher.tokenizer().get_vocab() != tokenizer.get_vocab():
            raise SpecError(
                f"objective 'distill': teacher '{self._config.teacher}' has another tokenizer, so its "
                "distribution is over other tokens",
                mend="choose a teacher with the same tokenizer",
            )

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """An answer, or a text in pieces, as prepared texts come."""
        if isinstance(record, Completion):
            answer = tokens(tokenizer, record.prompt, record.completion, record.tools)
            document = written(*answer, length)
            if document is None:
                yield TOO_LONG
            else:
                yield _example(document.input_ids, document.labels, document.cut > 0)
            return
        assert isinstance(record, Text)
        whole = np.array(document_tokens(tokenizer, record.text))
        for start in range(0, len(whole) - 1, length):
            piece = whole[start : start + length + 1]
            yield _example(piece[:-1], piece[1:])

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Rows side by side."""
        return labelled_rows(examples)

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The teacher."""
        return {"teacher": self._teacher.model()}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """The teacher's hidden states ``_NE`` where something counts, and its head."""
        teacher = frozen["teacher"]
        output: Any = head(teacher)
        hidden_BTE = hidden_states(teacher, **batch.inputs)
        found = {
            "teacher_hidden": _that_count(hidden_BTE, batch),
            "teacher_weight": output.weight,
        }
        if getattr(output, "bias", None) is not None:
            found["teacher_bias"] = output.bias
        return replace(batch, targets={**batch.targets, **found})

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum over positions that count."""
        targets, config = batch.targets, self._config
        total = divergence(
            _that_count(hidden_BTD, batch),
            head.weight,  # type: ignore[arg-type]
            targets["teacher_hidden"],
            targets["teacher_weight"],
            bias_V=getattr(head, "bias", None),
            teacher_bias_V=targets.get("teacher_bias"),
            share=config.share,
            temperature=config.temperature,
        )
        return {"loss": total}


def _that_count(hidden_BTD: Tensor, batch: Batch) -> Tensor:
    """Hidden states ``_ND`` of the positions that count."""
    places_N = batch.targets.get("label_places")
    if places_N is None:
        places_N = label_places(batch.targets["labels"])
    return hidden_BTD.flatten(0, 1).index_select(0, places_N)


def divergence(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    teacher_NE: Tensor,
    teacher_VE: Tensor,
    *,
    bias_V: Tensor | None = None,
    teacher_bias_V: Tensor | None = None,
    share: float,
    temperature: float,
) -> Tensor:
    """Σ over positions of D(teacher, student) in nats; a float32 scalar.

    With p the teacher's and q the student's distribution at this temperature and m = β·p + (1 − β)·q,
    D is β·KL(p ‖ m) + (1 − β)·KL(q ‖ m) for a ``share`` β between 0 and 1 (Agarwal et al. 2023,
    equation 1), KL(p ‖ q) for 0 and KL(q ‖ p) for 1, as in TRL. Where a head has more rows than the
    other, these are padding, and left out.

    As for :func:`engine.cross_entropy`, the gradients are made in the forward pass, chunk by chunk.
    """
    rows = min(len(weight_VD), len(teacher_VE))
    weight_VD = weight_VD[:rows].to(hidden_ND.dtype)
    bias_V = None if bias_V is None else bias_V[:rows]
    teacher = _Teacher(
        teacher_NE, teacher_VE[:rows], None if teacher_bias_V is None else teacher_bias_V[:rows]
    )
    apply: Any = _Divergence.apply
    total: Tensor = apply(hidden_ND, weight_VD, bias_V, teacher, share, temperature)
    return total


class _Teacher:
    """Its hidden states and head; without gradient."""

    def __init__(self, hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor | None) -> None:
        self._hidden_NE, self._weight_VE, self._bias_V = hidden_NE, weight_VE, bias_V

    def logprobs(self, part: slice, temperature: float) -> Tensor:
        """``_CV``, in float32."""
        return _logprobs(self._hidden_NE[part], self._weight_VE, self._bias_V, temperature)


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        teacher: _Teacher,
        share: float,
        temperature: float,
    ) -> Tensor:
        wants = ctx.needs_input_grad
        total = torch.zeros((), device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if wants[0] else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if wants[1] else None
        grad_bias_V = torch.zeros_like(bias_V) if wants[2] and bias_V is not None else None
        rows = max(_LEAST_ROWS, _LOGITS // len(weight_VD))
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            log_q_CV = _logprobs(hidden_ND[part], weight_VD, bias_V, temperature)
            log_p_CV = teacher.logprobs(part, temperature)
            loss_C, grad_CV = _derived(log_p_CV, log_q_CV, share)
            total += loss_C.sum()
            grad_CV /= temperature
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0)
            narrow_CV = grad_CV.to(hidden_ND.dtype)
            if grad_hidden_ND is not None:
                torch.mm(narrow_CV, weight_VD, out=grad_hidden_ND[part])
            if grad_weight_VD is not None:
                grad_weight_VD += narrow_CV.T @ hidden_ND[part]
        ctx.weight_type = weight_VD.dtype
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD, grad_bias_V)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V = ctx.saved_tensors
        return (
            None if hidden_ND is None else hidden_ND * scale.to(hidden_ND.dtype),
            None if weight_VD is None else (weight_VD * scale).to(ctx.weight_type),
            None if bias_V is None else bias_V * scale,
            *(None,) * 3,
        )


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


def _logprobs(
    hidden_CD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, temperature: float
) -> Tensor:
    logits_CV = hidden_CD @ weight_VD.T
    if bias_V is not None:
        logits_CV = logits_CV + bias_V
    return (logits_CV.float() / temperature).log_softmax(1)


def _example(input_ids: Ints, labels: Ints, truncated: bool = False) -> Example:
    fields = {"input_ids": input_ids, "labels": labels, "position_ids": np.arange(len(labels))}
    return Example(len(labels), fields, truncated)


def build(config: Distill, context: Context) -> DistillObjective:
    """The objective. Opens the teacher's folder."""
    return DistillObjective(config, context)
