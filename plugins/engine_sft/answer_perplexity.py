"""Perplexity of held-out answers, of which every token is one that training learns from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Chat,
    Completion,
    Context,
    Item,
    LogLikelihood,
    Record,
    RecordError,
    Response,
    RunError,
    Score,
    ratio,
)
from engine_sft.chat import sequences
from engine_sft.config import AnswerPerplexity

_Z = 1.96
_NATS_AT_MOST = 700.0
"""Beyond, the exponential function overflows."""


class AnswerPerplexityEvaluator:
    """Asks for every answer of the held-out conversations and completions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def items(self) -> Iterator[Item]:
        """A record is an item. Raises RunError where none has an answer."""
        tokenizer = self._context.tokenizer()
        found = False
        refused: Counter[str] = Counter()
        for record in self._context.held_out():
            if isinstance(record, Chat) and tokenizer.chat_template is None:
                raise RunError(
                    "evaluator 'answer-perplexity': the model's tokenizer has no chat template, which "
                    "conversations need"
                )
            try:
                requests = tuple(_requests(record, tokenizer))
            except RecordError as error:  # training leaves it out, too
                refused[error.reason] += 1
                continue
            if requests:
                found = True
                yield Item(record.id, requests)
        if not found:
            reasons = "".join(f"; {count} {reason}" for reason, count in refused.items())
            raise RunError(
                f"evaluator 'answer-perplexity': no held-out record has an answer{reasons}",
                mend="let `data` name a train stage with completions or conversations, and a `holdout`",
            )

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, float]:
        """Nats and tokens of a record's answers, EOS among them."""
        return {
            "nats": -math.fsum(response.logprob for response in responses),
            "tokens": sum(response.tokens for response in responses),
        }

    def summarise(self, rows: Sequence[dict[str, float]]) -> list[Score]:
        """Over all answers' tokens together; standard errors over records."""
        nats, error = ratio([r["nats"] for r in rows], [r["tokens"] for r in rows])
        perplexity = math.exp(min(nats, _NATS_AT_MOST))
        n = len(rows)
        return [
            Score(
                "perplexity", perplexity, error and perplexity * error, n, higher_is_better=False
            ),
            Score("nats_per_token", nats, error, n, higher_is_better=False),
        ]

    def compare(
        self, rows: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]]
    ) -> list[Score]:
        """By how many nats a token the answers are likelier, record by record.

        A token is one of the baseline's, whose tokenizer may be another.
        """
        saved = [old["nats"] - new["nats"] for old, new in zip(baseline, rows, strict=True)]
        gain, error = ratio(saved, [old["tokens"] for old in baseline])
        interval = (gain - _Z * error, gain + _Z * error) if error is not None else None
        return [Score("gain", gain, error, len(rows), interval=interval)]


def build(config: AnswerPerplexity, context: Context) -> AnswerPerplexityEvaluator:
    """The evaluator."""
    return AnswerPerplexityEvaluator(context)


def _requests(record: Record, tokenizer: Any) -> Iterator[LogLikelihood]:
    """One for each answer that training would learn, by the same tokens."""
    if not isinstance(record, Chat | Completion):
        return
    for pieces in sequences(record, tokenizer):
        before: list[int] = []
        for piece in pieces:
            if piece.turn is not None:
                yield LogLikelihood(tuple(before), tuple(piece.tokens))
            before += piece.tokens
