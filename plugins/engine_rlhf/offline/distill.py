"""Distillation: a student learns a teacher's next-token distributions.

Shapes: B rows, T positions, N labelled positions, D and E hidden widths of student and teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from engine import (
    Artifact,
    Batch,
    Completion,
    Context,
    Example,
    Objective,
    Record,
    SpecError,
    Text,
)
from engine.modeling import (
    LogitMap,
    document_tokens,
    head,
    head_parts,
    hidden_states,
    label_places,
    labelled_rows,
)
from engine_rlhf.config.offline import Distill
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline.divergence import divergence
from engine_rlhf.offline.documents import TOO_LONG, Ints, lm_document, prompt_and_answer


class DistillObjective(DropoutOff, Objective):
    """The divergence between the teacher's and the student's next-token distributions, in nats; see
    :func:`divergence`."""

    takes = Distill.takes
    head = Distill.head

    def __init__(self, config: Distill, context: Context) -> None:
        self._config: Distill = config
        self._teacher: Artifact = context.artifact(config.teacher)
        self._teacher_map: LogitMap | None = None

    def check(self, tokenizer: Any) -> None:
        """See :class:`engine.Objective`: the teacher must have the same tokenizer."""
        if self._teacher.tokenizer().get_vocab() != tokenizer.get_vocab():
            raise SpecError(
                f"objective 'distill': teacher '{self._config.teacher}' has another tokenizer, so its "
                "distributions are over other tokens",
                hint="choose a teacher with the same tokenizer",
            )

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One example for a completion; for a text, one for each row that it fills."""
        if isinstance(record, Completion):
            answer = prompt_and_answer(tokenizer, record.prompt, record.completion, record.tools)
            document = lm_document(*answer, length)
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
        """See :func:`engine.labelled_rows`."""
        return labelled_rows(examples)

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The teacher."""
        return {"teacher": self._teacher.model()}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """Adds the teacher's hidden states ``_NE`` at labelled positions, and its output head."""
        teacher = frozen["teacher"]
        weight_VE, bias_V, self._teacher_map = head_parts(head(teacher))
        hidden_BTE = hidden_states(teacher, **batch.inputs)
        found = {"teacher_hidden": _that_count(hidden_BTE, batch), "teacher_weight": weight_VE}
        if bias_V is not None:
            found["teacher_bias"] = bias_V
        return replace(batch, targets={**batch.targets, **found})

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The divergence, summed over labelled positions."""
        targets, config = batch.targets, self._config
        teacher = (targets["teacher_weight"], targets.get("teacher_bias"), self._teacher_map)
        total = divergence(
            _that_count(hidden_BTD, batch),
            head_parts(head),
            targets["teacher_hidden"],
            teacher,
            share=config.share,
            temperature=config.temperature,
        )
        return {"loss": total}


def _that_count(hidden_BTD: Tensor, batch: Batch) -> Tensor:
    """Hidden states ``_ND`` of the labelled positions."""
    places_N = batch.targets.get("label_places")
    if places_N is None:
        places_N = label_places(batch.targets["labels"])
    return hidden_BTD.flatten(0, 1).index_select(0, places_N)


def _example(input_ids: Ints, labels: Ints, truncated: bool = False) -> Example:
    fields = {"input_ids": input_ids, "labels": labels, "position_ids": np.arange(len(labels))}
    return Example(len(labels), fields, truncated)


def build(config: Distill, context: Context) -> DistillObjective:
    """Builds the objective; opens the teacher's folder."""
    return DistillObjective(config, context)
