"""Perplexity of held-out answers, of which every token is one that training learns from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Chat,
    Completion,
    Context,
    Item,
    LogLikelihood,
    Record,
    Response,
    RunError,
    Score,
    prompt_text,
    ratio,
)
from engine_sft.chat import counts, plain
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
        for record in self._context.held_out():
            requests = tuple(_requests(record, tokenizer))
            if requests:
                found = True
                yield Item(record.id, requests)
        if not found:
            raise RunError(
                "evaluator 'answer-perplexity': no held-out record has an answer",
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
    end = tokenizer.eos_token
    if isinstance(record, Completion):
        prompt = prompt_text(tokenizer, record.prompt)
        yield LogLikelihood(prompt, record.completion + end, apart=True)
    elif isinstance(record, Chat):
        if tokenizer.chat_template is None:
            raise RunError(
                "evaluator 'answer-perplexity': the model's tokenizer has no chat template, which "
                "conversations need"
            )
        messages = [plain(message, record.id) for message in record.messages]
        for i, message in enumerate(messages):
            if message["role"] == "assistant" and counts(record.messages[i]):
                before = tokenizer.apply_chat_template(
                    messages[:i], tokenize=False, add_generation_prompt=True
                )
                yield LogLikelihood(before, message["content"] + end, apart=True)
