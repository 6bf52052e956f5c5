"""Token shards: ``00000.bin`` (uint16 or uint32), ``00000.idx`` (documents), ``manifest.json``.

The index holds, for each document, the position of its first token and its length in bytes. It is read
where it is needed, so that no array of all documents is in memory.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import RunError
from engine.files.reading import read_json
from engine.storage.manifest import file_sha256, write_durably

FORMAT = 1
_MANIFEST = "manifest.json"
_KINDS = ("bin", "idx")
_DTYPES = ("<u2", "<u4")
_SHARD_TOKENS = 1 << 28
_BUFFERED_TOKENS = 1 << 20
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shard:
    """A pair of files. Their checksums are also in the corpus' manifest, which is what is verified."""

    name: str
    tokens: int
    documents: int
    bin_sha256: str
    idx_sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of shards holds. ``boundary_target``: a document's first token is a rightful
    target of the token before it, since it stands for the end of the document there."""

    format: int
    dtype: str
    eos_id: int
    boundary_target: bool
    tokens: int
    documents: int
    bytes: int
    shards: tuple[Shard, ...]


class ShardWriter:
    """Writes documents' tokens; nothing counts until :meth:`close` has written the manifest."""

    def __init__(
        self,
        folder: Path,
        *,
        vocab_size: int,
        eos_id: int,
        boundary_target: bool,
        shard_tokens: int = _SHARD_TOKENS,
    ) -> None:
        """``folder`` must not be there yet; a shard ends with the document that fills it."""
        folder.mkdir(parents=True)
        self._folder = folder
        self._vocab_size = vocab_size
        self._dtype = np.dtype(_DTYPES[vocab_size > 1 << 16])
        self._eos_id = eos_id
        self._boundary_target = boundary_target
        self._shard_tokens = shard_tokens
        self._shards: list[Shard] = []
        self._bytes = 0
        self._begin_shard()

    def add(self, tokens: Sequence[int] | NDArray[Any], n_bytes: int) -> None:
        """Appends a document of so many bytes of text. Raises RunError for an unknown token."""
        ids = np.asarray(tokens, np.int64)
        if ids.min() < 0 or ids.max() >= self._vocab_size:
            raise RunError(
                f"token {ids.max()} is none of the tokenizer's {self._vocab_size}",
                hint="its added tokens leave holes: save it anew with consecutive ids",
            )
        self._index.append((self._tokens, n_bytes))
        self._pieces.append(ids.astype(self._dtype))
        self._tokens += len(ids)
        self._waiting += len(ids)
        self._documents += 1
        self._bytes += n_bytes
        if self._waiting >= _BUFFERED_TOKENS:
            self._flush()
        if self._tokens >= self._shard_tokens:
            self._end_shard()

    def close(self) -> Manifest:
        """Writes what is left, and then the manifest."""
        self._end_shard()
        manifest = Manifest(
            format=FORMAT,
            dtype=self._dtype.str,
            eos_id=self._eos_id,
            boundary_target=self._boundary_target,
            tokens=sum(s.tokens for s in self._shards),
            documents=sum(s.documents for s in self._shards),
            bytes=self._bytes,
            shards=tuple(self._shards),
        )
        write_durably(self._folder / _MANIFEST, json.dumps(asdict(manifest), indent=1))
        return manifest

    def _begin_shard(self) -> None:
        self._name = f"{len(self._shards):05d}"
        self._pieces: list[NDArray[Any]] = []
        self._index: list[tuple[int, int]] = []
        self._tokens = self._waiting = self._documents = 0

    def _end_shard(self) -> None:
        if not self._documents:
            return
        self._flush()
        sums = (file_sha256(self._folder / f"{self._name}.{kind}") for kind in _KINDS)
        self._shards.append(Shard(self._name, self._tokens, self._documents, *sums))
        self._begin_shard()

    def _flush(self) -> None:
        """Moves what waits in memory to the files."""
        tokens = np.concatenate([np.zeros(0, self._dtype), *self._pieces])
        contents = tokens.tobytes(), np.array(self._index, "<i8").tobytes()
        for kind, content in zip(_KINDS, contents, strict=True):
            with (self._folder / f"{self._name}.{kind}").open("ab") as file:
                file.write(content)
        self._pieces, self._index, self._waiting = [], [], 0


class Shards:
    """Memory-mapped random access to a folder of shards, as one stream of tokens."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.n_tokens = manifest.tokens
        self.boundary_target = manifest.boundary_target
        sizes = [shard.tokens for shard in manifest.shards]
        self._offsets: Ints = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._tokens = [
            np.memmap(folder / f"{shard.name}.bin", np.dtype(manifest.dtype), "r")
            for shard in manifest.shards
        ]
        self._documents = [
            np.memmap(folder / f"{shard.name}.idx", "<i8", "r").data for shard in manifest.shards
        ]
        """Of each shard: two numbers a document."""

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """Opens a folder. Raises RunError naming the file that is missing or of the wrong size."""
        manifest = read_manifest(folder)
        width = np.dtype(manifest.dtype).itemsize
        for shard in manifest.shards:
            sizes = shard.tokens * width, shard.documents * 16
            for kind, size in zip(_KINDS, sizes, strict=True):
                _check_size(folder / f"{shard.name}.{kind}", size)
        return cls(folder, manifest)

    def tokens(self, start: int, stop: int) -> Ints:
        """Tokens [start, stop) of the stream."""
        pieces = []
        shard = int(np.searchsorted(self._offsets, start, "right")) - 1
        while start < stop:
            offset, end = int(self._offsets[shard]), min(stop, int(self._offsets[shard + 1]))
            pieces.append(self._tokens[shard][start - offset : end - offset])
            start, shard = end, shard + 1
        return np.concatenate([np.zeros(0, np.int64), *pieces]).astype(np.int64)

    def document_starts(self, start: int, stop: int) -> Ints:
        """Positions in [start, stop) at which a document begins."""
        found = [np.zeros(0, np.int64)]
        first = int(np.searchsorted(self._offsets, start, "right")) - 1
        for offset, known in zip(self._offsets[first:], self._documents[first:], strict=False):
            if offset >= stop:
                break
            places = range(len(known) // 2)
            ends = (
                bisect_left(places, at - offset, key=lambda n: known[2 * n]) for at in (start, stop)
            )
            begin, end = ends
            found.append(np.asarray(known[2 * begin : 2 * end : 2]) + offset)
        return np.concatenate(found)


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest. Raises RunError."""
    file = folder / _MANIFEST
    try:
        data = read_json(file)
        manifest = Manifest(**{**data, "shards": tuple(Shard(**s) for s in data["shards"])})
        sums = sum(s.tokens for s in manifest.shards), sum(s.documents for s in manifest.shards)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file}: not a manifest of shards ({error})", hint=_HINT) from error
    if manifest.format != FORMAT:
        raise RunError(f"{file}: format {manifest.format}, this engine reads {FORMAT}", hint=_HINT)
    named = all(re.fullmatch(r"\d{5,}", str(s.name)) for s in manifest.shards)
    if manifest.dtype not in _DTYPES or not named or sums != (manifest.tokens, manifest.documents):
        raise RunError(f"{file}: damaged (it contradicts itself)", hint=_HINT)
    return manifest


_HINT = "prepare the data again: `engine run SPEC --rerun STAGE`"


def _check_size(file: Path, size: int) -> None:
    have = file.stat().st_size if file.is_file() else None
    if have != size:
        state = "missing" if have is None else f"{have} bytes instead of {size}"
        raise RunError(f"{file}: {state}", hint=_HINT)
