"""A linear classifier of texts: trained from examples, saved as safetensors and JSON, and opened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine import RunError, read_json, read_regular
from engine_corpus.judge.scores.features import Features, Ngrams, features_of
from engine_corpus.judge.scores.ngram_model import Floats

_WEIGHTS, _SETTINGS = "classifier.safetensors", "classifier.json"
_PASSAGE = 2000
"""Characters of a passage: examples are cut into passages, so that a book counts as many of them."""
_INVERSE_REGULARISATION = 10.0
"""For features of length 1, whose weights have to be large; 1 leaves scores near 0.5."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How texts become features: see :func:`features_of`."""

    ngrams: Ngrams = "words"
    order: int = 2
    features: int = 2**18


@dataclass(frozen=True, slots=True)
class LinearClassifier:
    """Weights of features, and an intercept; the score is the probability of a good text."""

    settings: Settings
    weights: Floats
    intercept: float

    def scores(self, texts: pa.Array | pa.ChunkedArray) -> Floats:
        """The score of each text, between 0 and 1."""
        found = _features(texts, self.settings)
        products = self.weights[found.columns] * found.values
        logits = np.bincount(found.rows, products, minlength=len(texts)) + self.intercept
        scores: Floats = 1 / (1 + np.exp(-logits))
        return scores


def trained(good: Iterable[str], bad: Iterable[str], settings: Settings) -> LinearClassifier:
    """Logistic regression with both kinds of the same weight, however many examples each has.

    Raises RunError where one kind has no text.
    """
    from scipy.sparse import csr_array  # type: ignore[import-untyped,unused-ignore]
    from sklearn.linear_model import (  # type: ignore[import-untyped,unused-ignore]
        LogisticRegression,
    )

    kinds = {"good": _passages(good), "bad": _passages(bad)}
    for name, passages in kinds.items():
        if not passages:
            raise RunError(f"classifier: the examples of `{name}` have no text")
    texts = pa.array([*kinds["good"], *kinds["bad"]], pa.large_string())
    labels = np.repeat([1, 0], [len(kinds["good"]), len(kinds["bad"])])
    found = _features(texts, settings)
    starts = np.concatenate([[0], np.cumsum(found.counts)])
    places = found.columns.astype(np.int32), starts.astype(np.int32)  # as liblinear has them
    given = csr_array((found.values, *places), (len(texts), settings.features))
    # liblinear takes one thread and no BLAS, so that its weights are the same on every machine.
    model: Any = LogisticRegression(
        C=_INVERSE_REGULARISATION, class_weight="balanced", solver="liblinear", random_state=0
    )
    model.fit(given, labels)
    return LinearClassifier(settings, model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def save(classifier: LinearClassifier, folder: Path) -> None:
    """Saves a classifier in a folder, which is made: weights as safetensors, settings as JSON."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"weights": classifier.weights, "intercept": np.array([classifier.intercept])}
    save_file(tensors, folder / _WEIGHTS)
    told = json.dumps(asdict(classifier.settings), indent=1)
    (folder / _SETTINGS).write_text(told + "\n", encoding="utf-8")


def opened(folder: Path) -> LinearClassifier:
    """The classifier in a folder. Raises RunError where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        settings = Settings(**read_json(folder / _SETTINGS))
        tensors = load(read_regular(folder / _WEIGHTS))
        weights, intercept = tensors["weights"], tensors["intercept"]
        if weights.shape != (settings.features,) or intercept.shape != (1,):
            raise ValueError(f"{_WEIGHTS} does not fit to {_SETTINGS}")
        if settings.ngrams not in ("words", "characters") or settings.order < 1:
            raise ValueError(f"{_SETTINGS} has unknown settings")
    except (OSError, ValueError, TypeError, LookupError, SafetensorError) as error:
        raise RunError(
            f"classifier: no classifier can be opened in '{folder}': {error}",
            hint="name a folder that `linear_classifier.save` has written",
        ) from error
    return LinearClassifier(settings, weights.astype(np.float64), float(intercept[0]))


def digest_files(folder: Path) -> Sequence[Path]:
    """The files that a classifier in a folder consists of."""
    return folder / _WEIGHTS, folder / _SETTINGS


def _features(texts: pa.Array | pa.ChunkedArray, settings: Settings) -> Features:
    return features_of(texts, settings.ngrams, settings.order, settings.features)


def _passages(texts: Iterable[str]) -> list[str]:
    cut = (text[at : at + _PASSAGE] for text in texts for at in range(0, len(text), _PASSAGE))
    return [passage for passage in cut if passage.strip()]
