"""Token shards: ``00000.bin`` (uint16 or uint32), ``00000.idx`` (documents), ``manifest.json``.

The index holds, for each document, the position of its first token and its length in bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import RunError

FORMAT = 1
_SHARD_TOKENS = 1 << 28
Ints = NDArray[np.int64]


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
    shards: tuple[dict[str, Any], ...]


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
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self._eos_id = eos_id
        self._boundary_target = boundary_target
        self._shard_tokens = shard_tokens
        self._shards: list[dict[str, Any]] = []
        self._pieces: list[NDArray[Any]] = []
        self._index: list[tuple[int, int]] = []
        self._pending = 0
        self._documents = 0
        self._bytes = 0

    def add(self, tokens: Sequence[int] | NDArray[Any], n_bytes: int) -> None:
        """Appends a document of so many bytes of text."""
        self._index.append((self._pending, n_bytes))
        self._pieces.append(np.asarray(tokens, self._dtype))
        self._pending += len(tokens)
        self._documents += 1
        self._bytes += n_bytes
        if self._pending >= self._shard_tokens:
            self._flush()

    def close(self) -> Manifest:
        """Writes what is left, and then the manifest."""
        self._flush()
        manifest = Manifest(
            format=FORMAT,
            dtype=self._dtype.str,
            eos_id=self._eos_id,
            boundary_target=self._boundary_target,
            tokens=sum(s["tokens"] for s in self._shards),
            documents=self._documents,
            bytes=self._bytes,
            shards=tuple(self._shards),
        )
        partial = self._folder / ".manifest.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(manifest), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._folder / "manifest.json")
        return manifest

    def _flush(self) -> None:
        if not self._index:
            return
        name = f"{len(self._shards):05d}"
        files = {
            f"{name}.bin": np.concatenate(self._pieces).tobytes(),
            f"{name}.idx": np.array(self._index, "<i8").tobytes(),
        }
        for file, content in files.items():
            (self._folder / file).write_bytes(content)
        self._shards.append(
            {
                "name": name,
                "tokens": self._pending,
                "documents": len(self._index),
                "sha256": {f: hashlib.sha256(c).hexdigest() for f, c in files.items()},
            }
        )
        self._pieces, self._index, self._pending = [], [], 0


class Shards:
    """Memory-mapped random access to a folder of shards, as one stream of tokens."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.n_tokens = manifest.tokens
        self.n_documents = manifest.documents
        self.n_bytes = manifest.bytes
        self.boundary_target = manifest.boundary_target
        sizes = [s["tokens"] for s in manifest.shards]
        self._offsets: Ints = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._tokens = [
            np.memmap(folder / f"{s['name']}.bin", np.dtype(manifest.dtype), "r")
            for s in manifest.shards
        ]
        starts = [
            np.fromfile(folder / f"{s['name']}.idx", "<i8").reshape(-1, 2)[:, 0] + offset
            for s, offset in zip(manifest.shards, self._offsets, strict=False)
        ]
        self._starts: Ints = np.concatenate([np.zeros(0, np.int64), *starts])

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> Shards:
        """Opens a folder; ``verify`` also compares checksums.

        Raises RunError naming the file that is missing, too short, or damaged.
        """
        manifest = read_manifest(folder)
        for shard in manifest.shards:
            expected = {
                f"{shard['name']}.bin": shard["tokens"] * np.dtype(manifest.dtype).itemsize,
                f"{shard['name']}.idx": shard["documents"] * 16,
            }
            for name, size in expected.items():
                _check(folder / name, size, shard["sha256"][name] if verify else None)
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
        first, last = np.searchsorted(self._starts, [start, stop])
        return self._starts[first:last]


def read_manifest(folder: Path) -> Manifest:
    """The folder's manifest. Raises RunError."""
    file = folder / "manifest.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        manifest = Manifest(**{**data, "shards": tuple(data["shards"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file}: not a manifest of shards ({error})", mend=_MEND) from error
    if manifest.format != FORMAT:
        raise RunError(f"{file}: format {manifest.format}, this engine reads {FORMAT}", mend=_MEND)
    return manifest


_MEND = "prepare the data again: `engine run SPEC --rerun STAGE`"


def _check(file: Path, size: int, sha256: str | None) -> None:
    have = file.stat().st_size if file.is_file() else None
    if have != size:
        state = "missing" if have is None else f"{have} bytes instead of {size}"
        raise RunError(f"{file}: {state}", mend=_MEND)
    if sha256 is not None:
        with file.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != sha256:
                raise RunError(f"{file}: damaged (its checksum differs)", mend=_MEND)
