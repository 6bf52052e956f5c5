"""Step ``substring-dedup``: each passage of many words stays in one document.

1. *Candidates*: windows of as many words as the shortest passage has get fingerprints by winnowing, and
   a shuffle tells which fingerprints several documents have.
2. *Keepers*: a second shuffle brings equal windows of candidates together, and tells of each the
   document in the highest place.
3. *Passages*: runs of such windows are sent to their keepers and compared word by word; what is equal
   is cut.

Each part tells a fingerprint, a window or a passage once, however many of its documents have it. So the
work is linear in the words, and a key has at most a row for each part, also where all documents begin
with the same licence. Windows have 64-bit keys: two different ones with the same key, which 1 corpus in
40 with 10^9 windows has, may leave a passage in its place, but never cut another.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa

from engine import Context, Corpus, CorpusStep, Dataset
from engine_corpus.deduplicate.substring import candidates, cutting, keepers, passages
from engine_corpus.deduplicate.substring.config import SubstringDedup

_NAMED = 10
"""Keepers that the summary names."""


class SubstringDedupStep(CorpusStep):
    """Changes ``text``, or drops by the rule ``repeated-passages`` where nothing of it remains.

    ``substring_words``: the number of words that are cut. ``substring_spans``: JSON, for each span its
    start and end in the text as it was, in characters, and the id of the document that keeps it.
    """

    def __init__(self, config: SubstringDedup) -> None:
        self._words = config.words
        self._reading: dict[str, Any] = {
            "words": config.words,
            "ignore_case": "case" in config.ignore,
        }

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`."""
        fingerprints = corpus.map(
            partial(candidates.fingerprints, **self._reading), corpus.documents
        )
        counts = corpus.map(candidates.counted, fingerprints)
        shared = corpus.map(candidates.shared, corpus.shuffle(counts, "fingerprint"))
        regions = corpus.map(
            partial(candidates.regions, **self._reading),
            corpus.documents,
            fingerprints,
            corpus.shuffle(shared, "part"),
        )

        described = corpus.map(keepers.described, regions)
        placed = corpus.map(keepers.placed, corpus.shuffle(described, "length"))
        places = corpus.shuffle(placed, "part")
        windows = corpus.map(partial(keepers.windows, words=self._words), regions, places)
        kept = corpus.map(keepers.kept, corpus.shuffle(windows, "key"))
        kept = corpus.shuffle(kept, "part")

        found = corpus.map(partial(passages.passages, words=self._words), regions, kept)
        claims = corpus.shuffle(corpus.map(passages.claims, found), "part")
        verified = corpus.shuffle(corpus.map(passages.verified, regions, claims), "part")
        return corpus.map(cutting.cut, corpus.documents, found, verified)

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """Documents, passages and words that are cut, and the ids of the documents that keep the most
        passages, with their numbers."""
        documents = words = 0
        keeper: Counter[str] = Counter()
        for table in found:
            documents += table.num_rows
            words += sum(table.column("substring_words").to_pylist())
            for spans in table.column("substring_spans").to_pylist():
                keeper.update(name for _, _, name in json.loads(spans))
        most = sorted(keeper.items(), key=lambda one: (-one[1], one[0]))[:_NAMED]
        return {
            "documents": documents,
            "passages": keeper.total(),
            "words": words,
            "keepers": dict(most),
        }


def build(config: SubstringDedup, context: Context) -> SubstringDedupStep:
    """Builds the step."""
    return SubstringDedupStep(config)
