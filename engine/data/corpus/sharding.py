"""Documents of a source as tokens, in a keyed order over all parts, in shards.

The order is that of a hash of each document's number as it was read, keyed by the spec's seed and the
source's name. It does not depend on how the source is divided into parts, on the executor, or, as ids
of files do, on the folder. Parts are encoded by the executor; buckets by ranges of the hash, as many as
parts, are then sorted and written one after the other, so that memory holds one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine.data.corpus.columns import batches
from engine.data.corpus.documents import Documents
from engine.data.corpus.parts import divided, fitted
from engine.data.corpus.steps import Progress, counted
from engine.data.corpus.store import key_of
from engine.data.records import blaming
from engine.data.shards import ShardWriter
from engine.modeling.encoding import boundary
from engine.modeling.fast_encoding import FastEncoder
from engine.storage.manifest import file_sha256

_ENCODE_BATCH = 256
"""Documents tokenized at once: enough to keep every core busy."""
_ROWS = 1 << 14
"""Documents in a row group of ``documents.parquet``, which whoever reads it has in memory at once."""


@dataclass(frozen=True)
class SavedTokenizer:
    """A tokenizer, and the folder where processes find it, named by its content."""

    tokenizer: Any
    folder: Path
    digest: str

    @classmethod
    def save(cls, tokenizer: Any, folder: Path) -> SavedTokenizer:
        """Saves a tokenizer in a new folder."""
        tokenizer.save_pretrained(folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        sums = [[file.relative_to(folder).as_posix(), file_sha256(file)] for file in files]
        return cls(tokenizer, folder, key_of("tokenizer", sums))


def write_shards(
    documents: Documents,
    source: int,
    name: str,
    saved: SavedTokenizer,
    seed: int,
    folder: Path,
    progress: Progress,
) -> int:
    """Writes the shards of a source of this name, and ``documents.parquet``, into a new folder; returns
    the number of tokens. Raises RunError."""
    annotations = documents.annotations(source)
    ordered = key_of("order", seed, name)
    starts = documents.starts(source)
    key = key_of("shards", saved.digest, ordered, starts, str(annotations))
    corpus = documents.corpus(source, key, counted(f"tokenize {name}", progress))
    encode = _Encoding(saved.folder, saved.digest, ordered, starts, annotations)
    with blaming("the tokenizer"):
        encoded = corpus.map(encode.table, corpus.documents)
    buckets = corpus.shuffle(encoded, "_bucket")
    tokenizer = saved.tokenizer
    bos, eos = boundary(tokenizer), tokenizer.eos_token_id
    ends = [] if bos == eos else [eos]
    schema = annotations.append(pa.field("tokens", pa.int64()))
    writer = ShardWriter(folder, vocab_size=len(tokenizer), eos_id=eos, boundary_target=bos == eos)
    with pq.ParquetWriter(folder / "documents.parquet", schema, compression="zstd") as table:
        for number, bucket in enumerate(corpus.tables(buckets), 1):
            if bucket.num_rows:
                order = np.argsort(bucket.column("_key").to_numpy(), kind="stable")
                rows = bucket.take(pa.array(order))
                for ids, size in _tokens(rows):
                    writer.add(np.concatenate([[bos], ids, ends]), size)
                table.write_table(fitted(rows, schema), row_group_size=_ROWS)
            progress(f"write {name}", number, buckets.parts, "")
    return writer.close().tokens


@dataclass(frozen=True)
class _Encoding:
    """Makes a table of tokens of a part, in any process. ``order`` keys the hash of documents' numbers,
    and ``starts`` are those of the first ones of parts."""

    folder: Path
    digest: str
    order: str
    starts: Sequence[int]
    annotations: pa.Schema

    def table(self, documents: pa.Table) -> pa.Table:
        """Of each document that training gets: its tokens, place, bytes and annotations."""
        _, trained = divided(documents)
        encoder = _encoder(self.folder, self.digest)
        ids = [
            one
            for batch in batches(trained.select(["text"]), _ENCODE_BATCH)
            for one in encoder.texts(batch.column("text").to_pylist())
        ]
        numbers = np.array(self.starts)[trained.column("part")] + trained.column("row").to_numpy()
        keys = np.array([_hash(self.order, one) for one in numbers.tolist()], np.uint64)
        ranges = (keys >> np.uint64(32)) * np.uint64(len(self.starts)) >> np.uint64(32)
        return (
            fitted(trained, self.annotations)
            .append_column("tokens", pa.array(map(len, ids), pa.int64()))
            .append_column("_key", pa.array(keys))
            .append_column("_bucket", pa.array(ranges))
            .append_column("_bytes", pc.binary_length(trained.column("text")))
            .append_column("_ids", pa.array([one.tobytes() for one in ids], pa.large_binary()))
        )


def _tokens(rows: pa.Table) -> Iterator[tuple[NDArray[np.uint32], int]]:
    """The tokens of documents, and the sizes of their texts in bytes."""
    for ids, size in zip(rows.column("_ids"), rows.column("_bytes").to_pylist(), strict=True):
        yield np.frombuffer(ids.as_buffer(), np.uint32), size


def _hash(order: str, number: int) -> int:
    told = number.to_bytes(8, "big")
    return int.from_bytes(blake2b(told, digest_size=8, key=order.encode()).digest(), "big")


@lru_cache(maxsize=1)
def _encoder(folder: Path, digest: str) -> FastEncoder:
    """The encoder of a saved tokenizer, for all parts that a process gets."""
    from tokenizers import Tokenizer

    return FastEncoder(Tokenizer.from_file(str(folder / "tokenizer.json")))
