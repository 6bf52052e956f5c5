"""Step ``near-dedup``: of documents that are nearly the same, the first in the order stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from engine import Context, Corpus, CorpusStep, Dataset
from engine_corpus.deduplicate.near.banding import banding_for
from engine_corpus.deduplicate.near.config import NearDedup
from engine_corpus.deduplicate.near.greedy import fallen
from engine_corpus.deduplicate.near.groups import groups, pairs_in_buckets, pairs_once
from engine_corpus.deduplicate.near.older import older_keys, tables_of, tickets
from engine_corpus.deduplicate.near.proposals import compared, keys, signed

_RULE = "near-duplicate"
_MUCH = 0.5
"""Share of a source's documents above which their loss is warned of."""


class NearDedupStep(CorpusStep):
    """Drops by the rule ``near-duplicate``. The columns ``near_keeper`` and ``near_similarity`` have
    the id of the document that stays, and the Jaccard similarity to it.

    ``near_bands`` and ``near_banding``, a name of the settings, are of all documents: a later corpus
    that is compared with this one reads them.
    """

    def __init__(self, config: NearDedup) -> None:
        self._config = config
        self._banding = banding_for(config.threshold, config.permutations)

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`. Raises RunError for an older corpus that cannot be read."""
        parts = corpus.documents.parts
        settings: dict[str, Any] = {
            "words": self._config.shingle_words,
            "bands": self._banding.bands,
            "rows": self._banding.rows,
        }
        own = corpus.map(partial(signed, **settings), corpus.documents)
        buckets = [corpus.shuffle(corpus.map(keys, own), "key")]
        older = tables_of(self._config.against)
        if older:
            given = corpus.map(partial(tickets, parts=parts), corpus.documents)
            read = partial(older_keys, tables=older, parts=parts, **settings)
            past = corpus.map(read, corpus.shuffle(given, "number"))
            buckets.append(corpus.shuffle(past, "key"))
        pairs = corpus.shuffle(corpus.map(pairs_in_buckets, *buckets), "node")
        pairs = corpus.shuffle(corpus.map(pairs_once, pairs), "key")
        found = corpus.shuffle(corpus.map(partial(groups, parts=parts), pairs), "part")
        rows = corpus.map(partial(compared, older=older, **settings), corpus.documents, own, found)
        decide = partial(fallen, threshold=self._config.threshold)
        decided = corpus.map(decide, corpus.shuffle(rows, "group"))
        return corpus.map(_columns, own, corpus.shuffle(decided, "part"))

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """The bands with their S-curve, how many documents of each source fell, how many keepers have
        so many copies, and warnings of sources that lost over half."""
        read, lost, copies = Counter[str](), Counter[str](), Counter[str]()
        for table in found:
            fell = table.filter(table.column("near_keeper").is_valid())
            read.update(table.column("source").to_pylist())
            lost.update(fell.column("source").to_pylist())
            copies.update(fell.column("near_keeper").to_pylist())
        sizes = Counter(copies.values())
        return {
            "decided_by": {_RULE: ["near_keeper", "near_similarity"]},
            "bands": self._banding.bands,
            "rows": self._banding.rows,
            "curve": self._banding.curve(),
            "sources": {name: {"documents": read[name], "fell": lost[name]} for name in read},
            "copies_of_a_document": {str(size): sizes[size] for size in sorted(sizes)},
            "warnings": [
                f"source '{name}' lost {lost[name]:,} of {read[name]:,} documents as near-duplicates"
                for name in read
                if lost[name] > _MUCH * read[name]
            ],
        }


def build(config: NearDedup, context: Context) -> NearDedupStep:
    """Builds the step."""
    return NearDedupStep(config)


def _columns(own: pa.Table, fell: pa.Table) -> pa.Table:
    """Of all documents their bands, and of those that fell the rule, the keeper and the similarity."""
    at = np.full(own.num_rows, -1)
    if fell.num_rows:
        places = np.searchsorted(own.column("row").to_numpy(), fell.column("row").to_numpy())
        at[places] = np.arange(fell.num_rows)
    else:
        fell = pa.table(
            {
                "near_keeper": pa.array([], pa.string()),
                "near_similarity": pa.array([], pa.float64()),
            }
        )
    taken = fell.take(pa.array(at, mask=at < 0))
    rules = [_RULE if place >= 0 else None for place in at.tolist()]
    return (
        own.drop_columns(["copies"])
        .append_column("drop", pa.array(rules, pa.string()))
        .append_column("near_keeper", taken.column("near_keeper"))
        .append_column("near_similarity", taken.column("near_similarity"))
    )
