"""Answers to prompts laid out for a model, and what it says of each as a whole.

Every answer is a document of its own. Several lie in one row, where position ids keep them apart, so
answers of unlike lengths cost little padding.

Shapes: B rows, T positions, N documents, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import (
    IGNORE,
    Example,
    Said,
    Tools,
    example_tokens,
    head,
    hidden_states,
    join,
    pack,
    token_logprobs,
)

TOO_LONG = "with an answer that leaves its prompt no room in a row"
"""Why a record gives no example."""

_LEAST_ROOM = 4
"""Of a row a prompt has at least one part of so many, if it is cut."""

Ints = NDArray[np.int64]
Inputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt and its answer, all ``_T``; what counts has a label other than ``IGNORE``.

    ``cut`` tokens at the prompt's beginning did not fit.
    """

    input_ids: Ints
    labels: Ints
    position_ids: Ints
    cut: int

    def __len__(self) -> int:
        return len(self.input_ids)


def tokens(
    tokenizer: Any, prompt: Said, answer: Said, tools: Tools | None = None
) -> tuple[Ints, Ints]:
    """Of the prompt, and of the answer with what ends it."""
    read, written = example_tokens(tokenizer, prompt, answer, tools)
    return np.array(read), np.array(written)


def written(prompt: Ints, answer: Ints, length: int, *, keeps_room: bool = True) -> Document | None:
    """For a language model: the answer's tokens count, each after those before it.

    Of a prompt that does not fit the end is kept; None where the answer leaves it less than a
    quarter of a row, or, where ``keeps_room`` is false, none at all.
    """
    whole = _fitting(prompt, answer, length + 1, least=_LEAST_ROOM if keeps_room else length)
    if whole is None:
        return None
    labels = np.where(np.arange(len(whole)) < len(whole) - len(answer), IGNORE, whole)
    cut = len(prompt) + len(answer) - len(whole)
    return Document(whole[:-1], labels[1:], np.arange(len(whole) - 1), cut)


def judged(prompt: Ints, answer: Ints, length: int) -> Document | None:
    """For a scalar model: what it gives at the answer's end counts. Fits as :func:`written` does."""
    whole = _fitting(prompt, answer, length)
    if whole is None:
        return None
    place = np.arange(len(whole))
    labels = np.where(place < len(whole) - 1, IGNORE, whole)
    return Document(whole, labels, place, len(prompt) + len(answer) - len(whole))


def pair(chosen: Document, rejected: Document, *, cut: int, **more: Any) -> Example:
    """Both answers to a prompt that lost ``cut`` tokens as one example."""
    fields = {"chosen": chosen, "rejected": rejected, **more}
    return Example(len(chosen) + len(rejected), fields, cut > 0)


def both_sides(examples: Sequence[Example]) -> list[Document]:
    """The chosen answers of all pairs, and then the rejected ones."""
    return [example.fields[side] for side in ("chosen", "rejected") for example in examples]


def _fitting(prompt: Ints, answer: Ints, most: int, *, least: int = _LEAST_ROOM) -> Ints | None:
    room = most - len(answer)
    if room < max(1, min(len(prompt), most // least)):
        return None
    return np.concatenate([prompt[-room:], answer])


def lay_out(documents: Sequence[Document]) -> tuple[Inputs, Inputs]:
    """The model's inputs, and ``labels`` and the ``document`` of each position, all ``_BT``.

    Rows are as long as the longest document; padding is documents that nobody sees.
    """
    length = max(map(len, documents))
    rows = pack([len(document) for document in documents], length)
    joined = [join([documents[i] for i in row], length, 0) for row in rows]
    owner_BT = np.zeros((len(rows), length), np.int64)
    for owner_T, row in zip(owner_BT, rows, strict=True):
        numbers = np.repeat(row, [len(documents[i]) for i in row])
        owner_T[: len(numbers)] = numbers
    columns = {
        name: torch.from_numpy(np.stack([getattr(row, name) for row in joined]))
        for name in ("input_ids", "position_ids", "labels")
    }
    labels_BT = columns.pop("labels")
    return columns, {"labels": labels_BT, "document": torch.from_numpy(owner_BT)}


def by_document(value_BT: Tensor, laid_out: Inputs, count: int) -> Tensor:
    """Sums ``_N`` over the positions that count of each of ``count`` documents, in float32."""
    counts_BT = laid_out["labels"] != IGNORE
    value_BT = torch.where(counts_BT, value_BT.float(), 0)
    sums_N = torch.zeros(count, device=value_BT.device)
    return sums_N.index_add(0, laid_out["document"].flatten(), value_BT.flatten())


def answer_lengths(laid_out: Inputs, count: int) -> Tensor:
    """Tokens that count of each document, ``_N``."""
    return by_document(torch.ones_like(laid_out["labels"]), laid_out, count)


def answer_logprobs(hidden_BTD: Tensor, output: nn.Module, laid_out: Inputs, count: int) -> Tensor:
    """log P ``_N`` of each answer after its prompt, in nats."""
    bias = getattr(output, "bias", None)
    logprob_BT = token_logprobs(
        hidden_BTD,
        output.weight,
        laid_out["labels"],
        bias=bias,
        places_N=laid_out.get("label_places"),
    )
    return by_document(logprob_BT, laid_out, count)


def model_logprobs(model: nn.Module, inputs: Inputs, laid_out: Inputs, count: int) -> Tensor:
    """log P ``_N`` of each answer by another model, without gradient."""
    hidden_BTD = hidden_states(model, **inputs)
    return answer_logprobs(hidden_BTD, head(model), laid_out, count)
