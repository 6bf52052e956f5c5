"""Tokenises texts into shuffled shards, perhaps after rules and deduplication, again and again.

``python chain_peer.py ours|datatrove tokenize|chain TEXTS TOKENIZER`` prints a JSON line for each round
over the texts of a JSON file; ``time`` is the process's CPU seconds. Chain: Gopher's quality and
repetition rules, near-deduplication by MinHash, tokens.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "1"
END = "<|endoftext|>"


def main(name: str, steps: str, file: Path, tokenizer: Path) -> None:
    """Prepares without end."""
    texts = json.loads(file.read_text(encoding="utf-8"))
    prepared = {"ours": _ours, "datatrove": _datatrove}[name]
    folder = Path(tempfile.mkdtemp())
    prepare = prepared(texts, tokenizer, steps == "chain", folder)
    number = 0
    while True:
        number += 1
        tokens = prepare(number)
        line = {"event": "step", "time": time.process_time(), "loss": tokens}
        print(json.dumps(line), flush=True)


def _ours(texts: Sequence[str], tokenizer: Path, chain: bool, folder: Path) -> Callable[[int], int]:
    """With all files that a preparation keeps; for the chain also those of the documents."""
    import pyarrow as pa
    from engine_corpus.deduplicate.near.config import NearDedup
    from engine_corpus.deduplicate.near.step import NearDedupStep
    from engine_corpus.judge.rules.config import Gopher
    from engine_corpus.judge.rules.gopher import GopherRules
    from transformers import AutoTokenizer

    from engine import DataSource, Text
    from engine.data.corpus.documents import Documents
    from engine.data.corpus.executors import Means
    from engine.data.corpus.sharding import SavedTokenizer, write_shards
    from engine.data.corpus.steps import NamedProcessor
    from engine.data.corpus.store import Store
    from engine.data.holdout import Answered
    from engine.data.records import NamedSource

    pa.set_cpu_count(1)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    saved = SavedTokenizer.save(loaded, folder / "tokenizer")

    class Given(DataSource):
        def records(self, part: str):
            yield from (Text(id=str(n), source="given", text=text) for n, text in enumerate(texts))

    def documents(work: Path) -> Documents:
        source = NamedSource("given", Given(), key="given")
        found = Documents(Store(work), [source], lambda *_: None, Means())
        if chain:
            found.carry_out(NamedProcessor("gopher", "gopher", GopherRules(Gopher())))
            found.carry_out(NamedProcessor("near-dedup", "near", NearDedupStep(NearDedup())))
        found.hold_out(0.0, 0, Answered(()), ())
        return found

    read = None if chain else documents(folder / "read")

    def prepare(number: int) -> int:
        work, shards = folder / "work", folder / "shards"
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(shards, ignore_errors=True)
        # Another seed, so that nothing is there already.
        tokenized = documents(work) if read is None else read
        return write_shards(tokenized, 0, "given", saved, number, shards, lambda *_: None)

    return prepare


def _datatrove(
    texts: Sequence[str], tokenizer: Path, chain: bool, folder: Path
) -> Callable[[int], int]:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()
    quality, repetition = GopherQualityFilter(), GopherRepetitionFilter()
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8)

    def deduplicated(documents: Sequence[Document]) -> Sequence[Document]:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        signatures, buckets, clusters = (str(work / name) for name in "abc")
        MinhashDedupSignature(signatures, config).run(iter(documents))
        matches = MinhashDedupBuckets(signatures, buckets, config=config)
        for number in range(config.num_buckets):
            matches.run(rank=number, world_size=config.num_buckets)
        MinhashDedupCluster(buckets, clusters, config).run()
        return list(MinhashDedupFilter(clusters).run(iter(documents)))

    def prepare(number: int) -> int:
        documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
        if chain:
            documents = [one for one in documents if quality.filter(one) is True]
            documents = [one for one in documents if repetition.filter(one) is True]
            documents = deduplicated(documents)
        shutil.rmtree(folder / "tokens", ignore_errors=True)
        file = str(tokenizer / "tokenizer.json")
        step = DocumentTokenizer(str(folder / "tokens"), file, eos_token=END, seed=number)
        step.run(iter(documents))
        return int(step.stats["tokens"].total)

    return prepare


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
