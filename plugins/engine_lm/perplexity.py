"""Perplexity per token and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engine import (
    Context,
    Evaluator,
    Item,
    Response,
    Rolling,
    Score,
    Text,
)
from engine.modeling import ratio
from engine_lm.training_config import Perplexity


class PerplexityEvaluator(Evaluator):
    """Scores every held-out document once, split into windows."""

    def __init__(self, config: Perplexity, context: Context) -> None:
        self._config = config
        self._context = context

    def items(self) -> Iterator[Item]:
        """One item for each document."""
        for record in self._context.held_out():
            if isinstance(record, Text):
                rolling = Rolling(record.text, self._config.stride)
                yield Item(record.id, (rolling,), len(record.text.encode()))

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, float]:
        """A document's log-likelihood in nats, its tokens and bytes."""
        response = responses[0]
        return {"logprob": response.logprob, "tokens": response.tokens, "bytes": item.data}

    def summarise(self, rows: Sequence[dict[str, float]]) -> list[Score]:
        """Perplexity and bits per byte of all documents; standard errors by ratio estimator."""
        if not rows:
            return []
        nats, error = ratio([-r["logprob"] for r in rows], [r["tokens"] for r in rows])
        bits, bits_error = ratio([-r["logprob"] for r in rows], [r["bytes"] for r in rows])
        perplexity = math.exp(min(nats, 700.0))
        bits, bits_error = bits / math.log(2), bits_error and bits_error / math.log(2)
        error = error and perplexity * error
        return [
            Score("perplexity", perplexity, error, len(rows), higher_is_better=False),
            Score("bits_per_byte", bits, bits_error, len(rows), higher_is_better=False),
        ]


def build(config: Perplexity, context: Context) -> PerplexityEvaluator:
    """The evaluator."""
    return PerplexityEvaluator(config, context)
