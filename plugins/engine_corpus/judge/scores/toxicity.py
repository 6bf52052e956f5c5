"""Processor ``toxicity``: the probability that a document is profane, by alt-profanity-check.

It is the scorer of the evaluator ``safety``: a linear model of words, trained on comments that people
called offensive. Profanity is not toxicity: a polite threat is not profane, but a quoted swear-word is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from engine import Context, Processor, RunError
from engine_corpus.judge.scores.columns import dropped_where
from engine_corpus.judge.scores.config import Toxicity
from engine_corpus.judge.scores.ngram_model import Floats


class ToxicityProcessor(Processor):
    """Gives ``toxicity``, a probability, and drops by the rule ``toxic`` above a threshold."""

    def __init__(self, config: Toxicity) -> None:
        self._config = config

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        found = toxicities(batch.column("text").to_pylist())
        columns = {"toxicity": pa.array(found, pa.float64())}
        if self._config.drop:
            columns["drop"] = dropped_where(found > self._config.threshold, "toxic")
        return columns


def build(config: Toxicity, context: Context) -> ToxicityProcessor:
    """Builds the processor. Raises RunError without alt-profanity-check."""
    toxicities([""])
    return ToxicityProcessor(config)


def toxicities(texts: Sequence[str]) -> Floats:
    """The probability of each text that it is profane. Raises RunError without alt-profanity-check."""
    try:
        from profanity_check import predict_prob
    except ImportError as error:
        raise RunError(
            "toxicity is found by alt-profanity-check, which is not installed",
            hint="pip install 'training-engine[evals]'",
        ) from error
    found: Floats = predict_prob(texts) if texts else np.empty(0)
    return found
