"""Perplexity of held-out answers, over the same tokens that training computes its loss on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Chat,
    Completion,
    Context,
    Evaluator,
    Item,
    LogLikelihood,
    Record,
    Response,
    RunError,
    Score,
)
from engine.modeling import RecordError, ratio
from engine_sft.chat import sequences
from engine_sft.config import AnswerPerplexity

_Z = 1.96
_NATS_AT_MOST = 700.0
"""Largest exponent before the exponential function overflows."""


class AnswerPerplexityEvaluator(Evaluator):
    """Scores every answer in the held-out conversations and completions."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def items(self) -> Iterator[Item]:
        """One item for each record. Raises RunError where no record has an answer."""
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
            except RecordError as error:  # training also drops it
                refused[error.reason] += 1
                continue
            if requests:
                found = True
                yield Item(record.id, requests)
        if not found:
            reasons = "".join(f"; {count} {reason}" for reason, count in refused.items())
            raise RunError(
                f"evaluator 'answer-perplexity': no held-out record has an answer{reasons}",
                hint="let `data` name a train stage with completions or conversations, and a `holdout`",
            )

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, float]:
        """Nats and tokens of a record's answers, including EOS."""
        return {
            "nats": -math.fsum(response.logprob for response in responses),
            "tokens": sum(response.tokens for response in responses),
        }

    def summarise(self, rows: Sequence[dict[str, float]]) -> list[Score]:
        """Perplexity and nats per token over all answers; standard errors over records."""
        nats, error = ratio([r["nats"] for r in rows], [r["tokens"] for r in rows])
        perplexity = math.exp(min(nats, _NATS_AT_MOST))
        spread = error and perplexity * error
        return [
            Score("perplexity", perplexity, spread, len(rows), higher_is_better=False),
            Score("nats_per_token", nats, error, len(rows), higher_is_better=False),
        ]

    def compare(
        self, rows: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]]
    ) -> list[Score]:
        """The mean gain in log-likelihood, in nats per token, compared record by record.

        Tokens are counted by the baseline's tokenizer, which may differ from the model's.
        """
        saved = [old["nats"] - new["nats"] for old, new in zip(baseline, rows, strict=True)]
        gain, error = ratio(saved, [old["tokens"] for old in baseline])
        interval = (gain - _Z * error, gain + _Z * error) if error is not None else None
        return [Score("gain", gain, error, len(rows), interval=interval)]


def build(config: AnswerPerplexity, context: Context) -> AnswerPerplexityEvaluator:
    """The evaluator."""
    return AnswerPerplexityEvaluator(context)


def _requests(record: Record, tokenizer: Any) -> Iterator[LogLikelihood]:
    """One request for each answer that training would learn, with the same tokens."""
    if not isinstance(record, Chat | Completion):
        return
    for pieces in sequences(record, tokenizer):
        before: list[int] = []
        for piece in pieces:
            if piece.turn is not None:
                yield LogLikelihood(tuple(before), tuple(piece.tokens))
            before += piece.tokens
