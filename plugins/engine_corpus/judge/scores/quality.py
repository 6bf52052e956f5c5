"""Step ``quality``: a weighted mean of perplexity, diversity and safety.

Perplexity is that of an interpolated Kneser–Ney model of reference text, as a percentile within each
source: the share of the source's documents that have a greater one, of equal ones half. Perplexities
that differ by less than 0.1 % count as equal, so that a source's percentiles follow from a table of
bounded size, whatever the number of documents. Diversity is described in :mod:`.diversity`; safety is
1 − toxicity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import Context, Corpus, CorpusStep, Dataset, RunError
from engine_corpus.judge.scores.config import Quality
from engine_corpus.judge.scores.diversity import diversities
from engine_corpus.judge.scores.examples import Examples
from engine_corpus.judge.scores.ngram_model import Floats, NgramModel
from engine_corpus.judge.scores.toxicity import toxicities
from engine_corpus.judge.scores.words import Ints, Words, pieces, words_of

PARTS = ("perplexity", "diversity", "safety")
_LEVELS = 1000
"""Levels of cross-entropy per nat: a level is 0.1 % of the perplexity."""
_SPAN = 1 << 32
"""More than the number of levels: the logarithm of a probability has a few hundred nats at most."""


class QualityStep(CorpusStep):
    """Gives ``quality``, its parts ``quality_perplexity``, ``quality_diversity`` and
    ``quality_safety``, each from 0 to 1, the best; and the ``perplexity`` itself.

    A document without words has no perplexity, and 0 as its percentile and diversity. A part of weight
    0 is null.
    """

    def __init__(self, config: Quality) -> None:
        self._config = config

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`. Raises RunError for a reference that cannot be read or has no
        words, and without the scorer of toxicity."""
        config = self._config
        given = list(config.reference)
        digest = Examples(given).digest() if given else ""
        measure = partial(
            _measured,
            reference=given,
            digest=digest,
            order=config.order,
            sample=config.sample if config.weights[1] else 0,
            safety=bool(config.weights[2]),
        )
        measured = corpus.map(measure, corpus.documents)
        levels = corpus.map(_sums, corpus.shuffle(corpus.map(_counts, measured), "key"))
        weights = [weight / sum(config.weights) for weight in config.weights]
        return corpus.map(partial(_weighed, levels=levels, weights=weights), measured)

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """For each source the number of documents, and the means of quality and its parts."""
        names = ["quality", *(f"quality_{part}" for part in PARTS)]
        tables = [table.select(["source", *names]) for table in found if table.num_rows]
        if not tables:
            return {}
        wanted = [("quality", "count"), *((name, "mean") for name in names)]
        means = pa.concat_tables(tables).group_by("source").aggregate(wanted).sort_by("source")
        return {
            row["source"]: {
                "documents": row["quality_count"],
                **{name: row[f"{name}_mean"] for name in names},
            }
            for row in means.to_pylist()
        }


def build(config: Quality, context: Context) -> QualityStep:
    """Builds the step."""
    return QualityStep(config)


def _measured(
    documents: pa.Table,
    reference: Sequence[str],
    digest: str,
    order: int,
    sample: int,
    safety: bool,
) -> pa.Table:
    """What is known of each document by itself: the level of its cross-entropy, null without words."""
    model = _model(tuple(reference), digest, order) if reference else None
    entropy, diverse, safe = [], [], []
    for texts in pieces(documents.column("text")):
        words = words_of(texts)
        if model:
            entropy.append(_cross_entropy(model, words))
        if sample:
            diverse.append(diversities(words, sample))
        if safety:
            safe.append(1 - toxicities(texts.to_pylist()))
    count = documents.num_rows
    entropies = _column(entropy, count)
    levels = pc.round(pc.multiply(entropies, _LEVELS), round_mode="half_to_even")
    return pa.table(
        {
            **{name: documents.column(name) for name in ("part", "row", "source")},
            "level": levels.cast(pa.int64()),
            "perplexity": pc.exp(entropies),
            "diversity": _column(diverse, count),
            "safety": _column(safe, count),
        }
    )


def _column(pieces: Sequence[Floats], count: int) -> pa.Array:
    """One column of what was found, with null for what is not a number; of nulls without pieces."""
    if not pieces:
        return pa.nulls(count, pa.float64())
    return pa.array(np.concatenate(pieces), pa.float64(), from_pandas=True)


@lru_cache(maxsize=1)
def _model(reference: tuple[str, ...], digest: str, order: int) -> NgramModel:
    """The model of the reference text whose digest this is."""
    examples = Examples(reference)
    if examples.digest() != digest:
        raise RunError(
            "quality: the files of `reference` changed while they were used", hint="run it again"
        )
    words = words_of(list(examples.texts()))
    if not len(words.codes):
        raise RunError("quality: the files of `reference` have no words")
    return NgramModel(words, order)


def _cross_entropy(model: NgramModel, words: Words) -> Floats:
    """Nats per word of each text; not a number for a text without words."""
    texts = len(words.counts)
    nats = np.bincount(words.text_of, -model.log_probabilities(words), minlength=texts)
    return np.where(words.counts > 0, nats, np.nan) / np.maximum(words.counts, 1)


def _counts(measured: pa.Table) -> pa.Table:
    """How many documents of each source have each level; ``key`` is a hash of source and level."""
    given = measured.filter(pc.is_valid(measured.column("level")))
    found = given.group_by(["source", "level"]).aggregate([([], "count_all")])
    places = zip(found.column("source").to_pylist(), found.column("level").to_pylist(), strict=True)
    keys = [_hash(f"{level} {source}") for source, level in places]
    return found.append_column("key", pa.array(keys, pa.uint64()))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _sums(counts: pa.Table) -> pa.Table:
    """The counts of all parts together."""
    found = counts.group_by(["source", "level"]).aggregate([("count_all", "sum")])
    return found.rename_columns(["source", "level", "documents"])


def _weighed(measured: pa.Table, levels: pa.Table, weights: Sequence[float]) -> pa.Table:
    """The columns of the step."""
    parts = {
        "perplexity": _percentiles(measured, levels) if weights[0] else None,
        "diversity": measured.column("diversity").to_numpy() if weights[1] else None,
        "safety": measured.column("safety").to_numpy() if weights[2] else None,
    }
    quality = np.zeros(measured.num_rows)
    for weight, values in zip(weights, parts.values(), strict=True):
        if values is not None:
            quality += weight * values
    nulls = pa.nulls(measured.num_rows, pa.float64())
    return pa.table(
        {
            "part": measured.column("part"),
            "row": measured.column("row"),
            "quality": pa.array(quality),
            **{
                f"quality_{name}": nulls if values is None else pa.array(values)
                for name, values in parts.items()
            },
            "perplexity": measured.column("perplexity"),
        }
    )


def _percentiles(measured: pa.Table, levels: pa.Table) -> Floats:
    """For each document the share of its source's with a greater perplexity; 0 without words."""
    if not levels.num_rows:
        return np.zeros(measured.num_rows)
    sources = pc.unique(levels.column("source"))
    keys = _keys(levels, sources)
    order = np.argsort(keys)
    keys, counts = keys[order], levels.column("documents").to_numpy()[order]
    # Of a source's documents those with a greater level, and half of those with the same.
    before = np.concatenate([[0], np.cumsum(counts)])
    last = np.searchsorted(keys, (keys // _SPAN + 1) * _SPAN)
    first = np.searchsorted(keys, keys // _SPAN * _SPAN)
    better = (before[last] - before[1:] + counts / 2) / (before[last] - before[first])
    found = np.zeros(measured.num_rows)
    has = pc.is_valid(measured.column("level")).to_numpy()
    given = measured.filter(pa.array(has))
    found[has] = better[np.searchsorted(keys, _keys(given, sources))]
    return found


def _keys(table: pa.Table, sources: pa.Array) -> Ints:
    """A number for each pair of source and level, in the order of sources and levels."""
    source = pc.index_in(table.column("source"), value_set=sources).to_numpy().astype(np.int64)
    keys: Ints = source * _SPAN + table.column("level").to_numpy()
    return keys
