"""Step ``classifier``: scores documents by a linear classifier.

It is a step rather than a processor, as what it gives depends on files: their contents belong to the
key of what is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine import Context, Corpus, CorpusStep, Dataset, RunError
from engine_corpus.judge.scores.columns import dropped_where
from engine_corpus.judge.scores.config import Classifier
from engine_corpus.judge.scores.examples import Examples
from engine_corpus.judge.scores.linear_classifier import (
    LinearClassifier,
    Settings,
    digest_files,
    opened,
    trained,
)
from engine_corpus.judge.scores.words import pieces


class ClassifierStep(CorpusStep):
    """Gives ``classifier``, the probability that a document is like the good examples, and drops by
    the rule ``low-classifier-score`` below a threshold."""

    def __init__(self, config: Classifier) -> None:
        self._config = config

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`. Raises RunError for examples or weights that cannot be
        used."""
        config = self._config
        origin = {
            "folder": config.folder,
            "good": list(config.good),
            "bad": list(config.bad),
            "settings": [config.ngrams, config.order, config.features],
        }
        threshold = config.threshold if config.drop else None
        score = partial(_scored, origin=origin, digest=_digest(origin), threshold=threshold)
        return corpus.map(score, corpus.documents)


def build(config: Classifier, context: Context) -> ClassifierStep:
    """Builds the step."""
    return ClassifierStep(config)


def _digest(origin: Mapping[str, Any]) -> str:
    """A hash of the files that the classifier comes from."""
    if origin["folder"] is None:
        return f"{Examples(origin['good']).digest()} {Examples(origin['bad']).digest()}"
    folder = Path(os.path.expanduser(origin["folder"]))
    opened(folder)  # tells a user what is wrong with the folder
    return Examples([str(path) for path in digest_files(folder)]).digest()


def _scored(
    documents: pa.Table, origin: Mapping[str, Any], digest: str, threshold: float | None
) -> pa.Table:
    model = _classifier(_hashable(origin), digest)
    found = [model.scores(texts) for texts in pieces(documents.column("text"))]
    scores = np.concatenate(found)
    columns = {
        "part": documents.column("part"),
        "row": documents.column("row"),
        "classifier": pa.array(scores, pa.float64()),
    }
    if threshold is not None:
        columns["drop"] = dropped_where(scores < threshold, "low-classifier-score")
    return pa.table(columns)


def _hashable(origin: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        origin["folder"],
        tuple(origin["good"]),
        tuple(origin["bad"]),
        tuple(origin["settings"]),
    )


@lru_cache(maxsize=1)
def _classifier(origin: tuple[Any, ...], digest: str) -> LinearClassifier:
    """The classifier that comes from the files of this digest: trained once in each process."""
    folder, good, bad, settings = origin
    if _digest({"folder": folder, "good": good, "bad": bad}) != digest:
        raise RunError("classifier: its files changed while they were used", hint="run it again")
    if folder is not None:
        return opened(Path(os.path.expanduser(folder)))
    return trained(Examples(good).texts(), Examples(bad).texts(), Settings(*settings))
