"""Perplexity per token and bits per byte."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from engine import Context, Item, Response, Rolling, Score, Text, ratio
from engine_lm.config import Perplexity


class PerplexityEvaluator:
    """Reads every held-out document once, each in windows of its own."""

    def __init__(self, config: Perplexity, context: Context) -> None:
        self._config = config
        self._context = context

    def items(self) -> Iterator[Item]:
        """A document is an item."""
        for record in self._context.held_out():
            if isinstance(record, Text):
                rolling = Rolling(record.text, self._config.stride)
                yield Item(record.id, (rolling,), len(record.text.encode()))

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, float]:
        """A document's log-likelihood in nats, its tokens and bytes."""
        response = responses[0]
        return {"logprob": response.logprob, "tokens": response.tokens, "bytes": item.data}

    def summarise(self, rows: Sequence[dict[str, float]]) -> list[Score]:
        """Both over all documents together; standard errors over documents (ratio estimator)."""
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
