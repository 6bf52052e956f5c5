"""Pre-training: the next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from engine import (
    BaseObjective,
    Batch,
    Context,
    Example,
    Record,
    Text,
    cross_entropy,
    document_tokens,
    labelled_rows,
)
from engine_lm.config import NextToken


class NextTokenObjective(BaseObjective):
    """Σ −log P(x_t | x_<t) over the tokens whose document the model has begun to read."""

    takes = NextToken.takes
    head = NextToken.head

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example]:
        """A document's tokens in pieces of at most ``length``."""
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
        """Rows side by side; a shorter one is padded with a document of its own."""
        return labelled_rows(examples)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of −log P."""
        labels_BT = batch.targets["labels"]
        loss = cross_entropy(hidden_BTD, head.weight, labels_BT, bias=getattr(head, "bias", None))
        return {"loss": loss}


def build(config: NextToken, context: Context) -> NextTokenObjective:
    """The objective."""
    return NextTokenObjective()
