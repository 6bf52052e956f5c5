"""The texts of a global batch: how many, how long, and what is computed with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from engine import (
    BatchWork,
    Flops,
    Readers,
    TextLength,
    Train,
    batch_flops,
    micro_rows,
)

_BYTES = 3
"""Bytes of text in a token of a large vocabulary: rather too few, so that texts are not too short. The
quickstart's vocabulary of 4,096 has 3.5."""
_LARGE = 512
"""Smaller vocabularies are taken to be of bytes."""
_SLOTS = 64
"""Texts that are sampled together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of an optimizer step, over all ranks.

    ``length``: their length, at most; ``filled``: whether rows are full of them; ``told``: whether the
    data's settings tell it, else texts are taken to fill rows. ``texts`` are learned from, at most
    ``most`` of them in a micro-batch.
    ``beside`` are the FLOPs of everything else that is computed. In ``steps`` steps ``sampled`` answers
    are sampled once, each of ``length.at_head`` tokens.
    """

    length: TextLength
    filled: bool
    told: bool
    texts: float
    most: int
    beside: Flops
    sampled: float
    steps: int

    def __str__(self) -> str:
        tokens, answer = math.ceil(self.length.tokens), math.ceil(self.length.at_head)
        told = f"{self.texts:.4g} texts of at most {tokens} tokens are learned from in a step"
        if self.sampled:
            often = f"every {self.steps} steps" if self.steps > 1 else "in each"
            told += f"; {self.sampled:.4g} answers of at most {answer} are sampled {often}"
        return told if self.told else f"{told}, if they fill their rows"

    @property
    def tokens(self) -> float:
        """Tokens that are learned from."""
        return self.texts * self.length.tokens

    @property
    def at_head(self) -> float:
        """Share of the tokens that meets the output head."""
        return self.length.at_head / self.length.tokens

    def passes(self, ranks: int) -> float:
        """Forward passes of a single token for each text, in which ``ranks`` groups sample answers."""
        together = math.ceil(self.sampled / ranks / _SLOTS)
        return together * max(0.0, self.length.at_head - 1) / self.steps


def batch_of(train: Train, readers: Readers, row: int) -> Batch:
    """The texts of a stage's batch, in rows of at most ``row`` tokens."""
    work = train.objective.batch_work()
    length, told = _length(train, work, readers.model.vocabulary, row)
    texts = train.batch.in_tokens(row) / row * work.texts
    one = batch_flops(work, length, readers)
    sampled = work.answer_tokens is not None
    rows = micro_rows(train.batch.micro_tokens, row)
    return Batch(
        length,
        work.packed or bool(train.data.prepare_stage()),
        told,
        texts * work.passes / work.steps,
        max(1, int(rows * row / length.tokens)) if sampled else rows * work.texts,
        one.beside.times(texts / work.steps),
        texts if sampled else 0,
        work.steps,
    )


def _length(train: Train, work: BatchWork, vocabulary: int, row: int) -> tuple[TextLength, bool]:
    """The length of texts, at most, and whether the data's settings tell it."""
    data: Any = train.data
    limits = None if data.prepare_stage() else data.text_bytes()
    answer = work.answer_tokens
    if limits is None:
        return TextLength(row, row if answer is None else answer), answer is None and work.packed
    per_token = _BYTES if vocabulary > _LARGE else 1
    prompt, given = (math.ceil(size / per_token) for size in limits)
    answer = given if answer is None else answer
    tokens = min(row, prompt + answer)
    at_head = min(answer, tokens) if work.labels_only else tokens
    if work.packed:
        return TextLength(row, row * at_head / tokens), True
    return TextLength(tokens, at_head), True
