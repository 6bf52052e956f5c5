"""Supervised fine-tuning: next-token loss on answers only.

Shapes: B rows, T positions, D hidden width, N labelled positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from engine import (
    Batch,
    Chat,
    Completion,
    Context,
    Example,
    Objective,
    Record,
    SpecError,
)
from engine.modeling import (
    IGNORE,
    Piece,
    cross_entropy,
    labelled_rows,
    pack,
)
from engine_sft.chat import sequences
from engine_sft.config import SFT
from engine_sft.noise import EmbeddingNoise
from engine_sft.templates import install

_FIELDS = ("input_ids", "labels", "position_ids")


class SFTObjective(Objective):
    """Σ −log P(x_t | x_<t) over the tokens of answers, including EOS."""

    takes = SFT.takes
    head = SFT.head

    def __init__(self, config: SFT) -> None:
        self._config = config

    def check(self, tokenizer: Any) -> None:
        """Sets the tokenizer's chat template and padding. Raises SpecError for an unusable one."""
        pad = self._config.pad_token
        if pad is not None:
            if pad not in tokenizer.get_vocab():
                raise SpecError(
                    f"objective.pad_token: '{pad}' is not in the tokenizer's vocabulary"
                )
            tokenizer.pad_token = pad
        if tokenizer.pad_token_id is not None and tokenizer.pad_token_id == tokenizer.eos_token_id:
            raise SpecError(
                f"the tokenizer pads with its EOS, '{tokenizer.eos_token}', so masking padding also "
                "masks the end of every answer",
                hint=f"set objective.pad_token to another of its tokens{_spare(tokenizer)}",
            )
        install(tokenizer, self._config.template)

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """The examples of a record, several for some conversations; too long ones are truncated."""
        assert isinstance(record, Chat | Completion)
        found = False
        for pieces in sequences(record, tokenizer, self._config.turns):
            found = True
            yield self._example(pieces, length)
        if not found:
            yield "without an answer to learn"

    def _example(self, pieces: Sequence[Piece], length: int) -> Example | str:
        tokens = np.concatenate([np.array(p.tokens, np.int64) for p in pieces])
        learnt = np.repeat([p.turn is not None for p in pieces], [len(p.tokens) for p in pieces])
        kept = slice(0, length + 1)
        input_ids = tokens[kept][:-1]
        labels = np.where(learnt, tokens, IGNORE)[kept][1:]
        if (labels == IGNORE).all():
            return f"with all answers beyond the {length} tokens of a row"
        places = np.arange(len(input_ids))
        fields = dict(zip(_FIELDS, (input_ids, labels, places), strict=True))
        return Example(len(input_ids), fields, truncated=len(tokens) > length + 1)

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """Packs examples into rows, if configured. Each token of padding is a document of its own."""
        if not self._config.packing:
            return examples
        rows = pack([example.length for example in examples], length)
        return [_joined([examples[i] for i in row], length) for row in rows]

    def attach(self, model: nn.Module) -> None:
        """Adds NEFTune's noise, if configured."""
        if self._config.neftune is not None:
            EmbeddingNoise(self._config.neftune).attach(model)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Stacks rows; each token of padding is a document of its own."""
        return labelled_rows(examples)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of −log P. The head is applied to labelled positions only."""
        labels_BT = batch.targets["labels"]
        learnt_BT = labels_BT != IGNORE
        hidden_ND, labels_N = hidden_BTD[learnt_BT], labels_BT[learnt_BT]
        return {"loss": cross_entropy(hidden_ND, head, labels_N)}


def build(config: SFT, context: Context) -> SFTObjective:
    """The objective."""
    return SFTObjective(config)


def _spare(tokenizer: Any) -> str:
    """Names a special token that could be padding, to end a hint; empty where there is none."""
    taken = {tokenizer.eos_token, tokenizer.bos_token}
    special = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    spare = sorted((t for t in special if t not in taken), key=lambda t: "pad" not in t.lower())
    return f", such as '{spare[0]}'" if spare else ""


def _joined(examples: Sequence[Example], length: int) -> Example:
    """Joins examples to one row of ``length``: compiled layers need rows of one shape."""
    total = sum(example.length for example in examples)
    fill = {"input_ids": 0, "labels": IGNORE, "position_ids": 0}
    fields = {
        name: np.concatenate(
            [*(e.fields[name] for e in examples), np.full(length - total, fill[name])]
        )
        for name in _FIELDS
    }
    return Example(total, fields)
