"""Pre-training: predicts the next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from engine import (
    Batch,
    Context,
    Example,
    Objective,
    Record,
    Text,
)
from engine.modeling import cross_entropy, document_tokens, labelled_rows
from engine_lm.training_config import NextToken


class NextTokenObjective(Objective):
    """Σ −log P(x_t | x_<t) over all tokens but the first of each document."""

    takes = NextToken.takes
    head = NextToken.head

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example]:
        """Splits a document's tokens into pieces of at most ``length``."""
        assert isinstance(record, Text)
        tokens = document_tokens(tokenizer, record.text)
        for start in range(0, len(tokens) - 1, length):
            piece = np.array(tokens[start : start + length + 1])
            yield Example(
                len(piece) - 1,
                {
                    "input_ids": piece[:-1],
                    "labels": piece[1:],
                    "position_ids": np.arange(len(piece) - 1),
                },
            )

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Stacks rows; the padding of a shorter one is a separate document."""
        return labelled_rows(examples)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of −log P over labelled tokens."""
        labels_BT = batch.targets["labels"]
        return {"loss": cross_entropy(hidden_BTD, head, labels_BT)}


def build(config: NextToken, context: Context) -> NextTokenObjective:
    """The objective."""
    return NextTokenObjective()
