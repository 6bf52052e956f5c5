"""Packs answers into rows, and computes log-probabilities of whole answers.

Every prompt with its answer is a document. A row holds several documents, which position ids keep
apart, so answers of different lengths cost little padding.

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

from engine import Example, Said, Tools
from engine.modeling import (
    IGNORE,
    example_tokens,
    head,
    hidden_states,
    join,
    pack,
    token_logprobs,
)

TOO_LONG = "with an answer that leaves its prompt no room in a row"
"""Why a record is dropped, as the log says it."""

_LEAST_ROOM = 4
"""A truncated prompt keeps at least 1/4 of a row."""

Ints = NDArray[np.int64]
Inputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Document:
    """A prompt and its answer; arrays are ``_T``, labels are ``IGNORE`` at positions without loss.

    ``cut`` is the number of tokens removed from the beginning of the prompt.
    """

    input_ids: Ints
    labels: Ints
    position_ids: Ints
    cut: int

    def __len__(self) -> int:
        return len(self.input_ids)


def prompt_and_answer(
    tokenizer: Any, prompt: Said, answer: Said, tools: Tools | None = None
) -> tuple[Ints, Ints]:
    """Tokens of the prompt, and of the answer including its end-of-sequence tokens."""
    asked, given = example_tokens(tokenizer, prompt, answer, tools)
    return np.array(asked), np.array(given)


def lm_document(
    prompt: Ints, answer: Ints, length: int, *, keeps_room: bool = True
) -> Document | None:
    """A document for a language model; the tokens of the answer are its labels.

    A prompt that is too long loses its beginning. Returns None where the answer leaves the prompt less
    than a quarter of a row or, if ``keeps_room`` is false, no room at all.
    """
    whole = _fitting(prompt, answer, length + 1, least=_LEAST_ROOM if keeps_room else length)
    if whole is None:
        return None
    labels = np.where(np.arange(len(whole)) < len(whole) - len(answer), IGNORE, whole)
    cut = len(prompt) + len(answer) - len(whole)
    return Document(whole[:-1], labels[1:], np.arange(len(whole) - 1), cut)


def scalar_document(prompt: Ints, answer: Ints, length: int) -> Document | None:
    """A document for a scalar model, labelled at its end; truncated as in :func:`lm_document`."""
    whole = _fitting(prompt, answer, length)
    if whole is None:
        return None
    place = np.arange(len(whole))
    labels = np.where(place < len(whole) - 1, IGNORE, whole)
    return Document(whole, labels, place, len(prompt) + len(answer) - len(whole))


def pair(chosen: Document, rejected: Document, *, cut: int, **more: Any) -> Example:
    """One example with both answers to a prompt from which ``cut`` tokens were removed."""
    fields = {"chosen": chosen, "rejected": rejected, **more}
    return Example(len(chosen) + len(rejected), fields, cut > 0)


def both_sides(examples: Sequence[Example]) -> list[Document]:
    """The chosen answers of all pairs, followed by the rejected ones."""
    return [example.fields[side] for side in ("chosen", "rejected") for example in examples]


def _fitting(prompt: Ints, answer: Ints, most: int, *, least: int = _LEAST_ROOM) -> Ints | None:
    room = most - len(answer)
    if room < max(1, min(len(prompt), most // least)):
        return None
    return np.concatenate([prompt[-room:], answer])


def lay_out(documents: Sequence[Document]) -> tuple[Inputs, Inputs]:
    """Packs documents into rows: the model's inputs, and each position's ``labels`` and ``document``
    number as targets, all ``_BT``.

    Rows are as long as the longest document. Each token of padding is a document without labels.
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
    """Sums ``_N`` over the labelled positions of each of ``count`` documents, in float32."""
    counts_BT = laid_out["labels"] != IGNORE
    value_BT = torch.where(counts_BT, value_BT.float(), 0)
    sums_N = torch.zeros(count, device=value_BT.device)
    return sums_N.index_add(0, laid_out["document"].flatten(), value_BT.flatten())


def answer_lengths(laid_out: Inputs, count: int) -> Tensor:
    """Number ``_N`` of labelled tokens in each document."""
    return by_document(torch.ones_like(laid_out["labels"]), laid_out, count)


def answer_logprobs(hidden_BTD: Tensor, output: nn.Module, laid_out: Inputs, count: int) -> Tensor:
    """log P ``_N`` of each answer given its prompt, in nats."""
    logprob_BT = token_logprobs(
        hidden_BTD, output, laid_out["labels"], places_N=laid_out.get("label_places")
    )
    return by_document(logprob_BT, laid_out, count)


def model_logprobs(model: nn.Module, inputs: Inputs, laid_out: Inputs, count: int) -> Tensor:
    """log P ``_N`` of each answer under a model, computed without gradient."""
    hidden_BTD = hidden_states(model, **inputs)
    return answer_logprobs(hidden_BTD, head(model), laid_out, count)
