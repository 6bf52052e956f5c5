"""Documents of corpora that were prepared before.

A prepared folder keeps the bands of its documents among the columns of ``documents.parquet``. Where it
has none, or others, they are computed from the texts, which come back from the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b, file_digest
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import RunError, json_of, pretrained_tokenizer, read_json
from engine_corpus.deduplicate.near.banding import Banding
from engine_corpus.deduplicate.near.hashing import Hashes
from engine_corpus.deduplicate.near.matrices import matrix_of
from engine_corpus.deduplicate.near.nodes import node_of, place_of, row_of
from engine_corpus.deduplicate.near.signatures import band_hashes

Rows = NDArray[np.int64]
_FORMAT = 1
"""Of shards, as their manifests say."""
_HINT = "prepare that corpus again: `engine run SPEC --rerun STAGE`"


def tables_of(folders: Sequence[str]) -> list[list[str]]:
    """Of every source of these prepared folders: the folder as it is named, the source's number, and a
    hash of the folder's content. Raises RunError, also where their tables of documents were damaged."""
    found = []
    for folder in folders:
        try:
            content = (Path(expanduser(folder)) / "manifest.json").read_bytes()
            numbers = sorted(int(one.name) for one in _shards(folder).iterdir())
        except (OSError, ValueError) as error:
            raise RunError(f"{folder}: not a prepared corpus ({error})", hint=_HINT) from error
        digest = blake2b(content, digest_size=16).hexdigest()
        for number in numbers:
            _check(folder, f"shards/{number}/documents.parquet", content)
        found += [[folder, str(number), digest] for number in numbers]
    return found


def _check(folder: str, name: str, manifest: bytes) -> None:
    """Raises RunError unless a file has the checksum that the folder's manifest lists."""
    place = Path(expanduser(folder)) / name
    try:
        with place.open("rb") as file:
            differs = file_digest(file, "sha256").hexdigest() != json_of(manifest)["files"][name]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f"{place}: damaged ({error})", hint=_HINT) from error
    if differs:
        raise RunError(f"{place}: damaged (its checksum differs)", hint=_HINT)


def tickets(documents: pa.Table, parts: int) -> pa.Table:
    """Numbers of all parts, so that a shuffle by them gives each part rows."""
    return pa.table({"number": np.arange(parts, dtype=np.int64)})


def older_keys(
    numbers: pa.Table, tables: list[list[str]], parts: int, words: int, bands: int, rows: int
) -> pa.Table:
    """A row for each band of the documents that fall to a part: a share of the row groups."""
    number = numbers.column("number")[0].as_py()
    nodes, found = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for place in range(len(tables)):
        with _Documents(tables[place], words, Banding(bands, rows)) as older:
            for group, within in older.groups():
                if (place + group) % parts == number:
                    matrix = older.bands(group, within)
                    some = matrix.any(axis=1)
                    nodes.append(np.repeat(node_of(place, within[some], older=True), bands))
                    found.append(matrix[some].ravel())
    joined = np.concatenate(nodes)
    copies = np.zeros(len(joined), bool)
    return pa.table({"key": np.concatenate(found), "node": joined, "copies": copies})


def older_documents(
    tables: list[list[str]], nodes: Hashes, words: int, banding: Banding
) -> tuple[pa.Table, Hashes]:
    """Of documents by their numbers: ``node``, ``id`` as ``RUN/STAGE:ID``, ``text``; and their bands.

    Raises RunError where a folder is damaged.
    """
    found, matrices = [], []
    nodes = np.sort(nodes)
    for place in np.unique(place_of(nodes)).tolist():
        wanted = row_of(nodes[place_of(nodes) == place])
        with _Documents(tables[place], words, banding) as older:
            for group, within in older.groups():
                rows = wanted[(wanted >= within[0]) & (wanted <= within[-1])]
                if len(rows):
                    matrices.append(older.bands(group, rows))
                    named = {"id": older.ids(group, rows), "text": older.texts(rows)}
                    found.append(pa.table({"node": node_of(place, rows, older=True), **named}))
    return pa.concat_tables(found), np.concatenate(matrices)


class _Documents:
    """The documents of a source of a prepared folder; rows are counted from its first row group on."""

    def __init__(self, table: list[str], words: int, banding: Banding) -> None:
        self._folder, source, _ = table
        self._source = _shards(self._folder) / source
        self._words, self._banding = words, banding

    def __enter__(self) -> _Documents:
        self._file = pq.ParquetFile(self._source / "documents.parquet")
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def groups(self) -> Iterator[tuple[int, Rows]]:
        """The row groups that have rows: their numbers, and the rows."""
        first = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if count:
                yield group, np.arange(first, first + count)
            first += count

    def bands(self, group: int, rows: Rows) -> Hashes:
        """A row of bands for each of these documents of a row group, 0 where one has none."""
        names = ["near_bands", "near_banding"]
        if set(names) <= set(self._file.schema_arrow.names):
            table = self._of(group, rows, names)
            made_by = pc.unique(table.column("near_banding")).to_pylist()
            if made_by == [self._banding.name(self._words)]:
                return matrix_of(table.column("near_bands"), self._banding.bands)
        texts = pa.chunked_array([self.texts(rows)])
        return band_hashes(texts, self._words, self._banding)[1]

    def ids(self, group: int, rows: Rows) -> pa.Array:
        """Their ids, after the folder."""
        names = self._of(group, rows, ["id"]).column("id").to_pylist()
        return pa.array([f"{self._folder}:{name}" for name in names], pa.string())

    def texts(self, rows: Rows) -> pa.Array:
        """Their texts, as training got them. Raises RunError."""
        tokenizer = _tokenizer(self._folder)
        texts = [
            str(tokenizer.decode(tokens, skip_special_tokens=True))
            for tokens in _tokens(self._source, rows)
        ]
        return pa.array(texts, pa.large_string())

    def _of(self, group: int, rows: Rows, names: list[str]) -> pa.Table:
        first = next(within[0] for number, within in self.groups() if number == group)
        return self._file.read_row_group(group, names).take(pa.array(rows - first))


def _tokens(shards: Path, rows: Rows) -> Iterator[Any]:
    """The tokens of documents by their numbers. An index has two numbers a document, of which the first
    says where it begins."""
    try:
        told = read_json(shards / "manifest.json")
        if told["format"] != _FORMAT:
            raise ValueError(f"format {told['format']}")
        names = [shard["name"] for shard in told["shards"]]
        ends = np.cumsum([shard["documents"] for shard in told["shards"]])
        for row in rows.tolist():
            shard = int(np.searchsorted(ends, row, "right"))
            tokens = np.memmap(shards / f"{names[shard]}.bin", np.dtype(told["dtype"]), "r")
            starts = np.memmap(shards / f"{names[shard]}.idx", "<i8", "r")[::2]
            own = row - (ends[shard - 1] if shard else 0)
            end = starts[own + 1] if own + 1 < len(starts) else len(tokens)
            yield tokens[starts[own] : end].tolist()
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise RunError(f"{shards}: damaged ({error})", hint=_HINT) from error


@cache
def _tokenizer(folder: str) -> Any:
    return pretrained_tokenizer(str(Path(expanduser(folder)) / "tokenizer"))


def _shards(folder: str) -> Path:
    return Path(expanduser(folder)) / "shards"
