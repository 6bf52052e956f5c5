"""Tables in files that are named by what made them, whole or not there.

Beside each table ``KEY.parquet`` stands ``KEY.json`` with its checksum, written last. A table that was
damaged since counts as missing, and is made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import RunError
from engine.storage.manifest import file_sha256, sealed, unsealed

_FORMAT = 2


def key_of(*made_by: Any) -> str:
    """The name of what is made by this: plain data, such as names, settings and other keys."""
    told = json.dumps([_FORMAT, made_by], sort_keys=True)
    return blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def refused(folder: Path, error: OSError) -> RunError:
    """The error where the disk refuses to write below a folder; it names the file, if that is known."""
    return RunError(
        f"{error.filename or folder}: {os.strerror(error.errno) if error.errno else error}",
        hint="free some space or mend the folder's rights",
    )


class Store:
    """A folder of tables and of notes, which are plain data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_checked": set()}

    def clear(self) -> None:
        """Removes what processes that were killed have left."""
        for left in self._folder.glob("*.partial"):
            left.unlink()

    def keep(self, keys: Iterable[str]) -> None:
        """Removes all tables and notes but these."""
        kept = set(keys)
        for file in self._folder.iterdir():
            if file.stem not in kept:
                file.unlink()

    def note(self, key: str) -> dict[str, Any] | None:
        """The note, or that of a table; None if it is missing or damaged."""
        try:
            return unsealed((self._folder / f"{key}.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def write_note(self, key: str, note: dict[str, Any]) -> None:
        """Writes a note. It need not survive a loss of power, as what is damaged is made again. Raises
        OSError."""
        partial = self._folder / f"{key}.json.{os.getpid()}.partial"
        partial.write_text(sealed(note), encoding="utf-8")
        os.replace(partial, self._folder / f"{key}.json")

    def mark(self, key: str, mark: str) -> None:
        """Writes how far the making of a table has come."""
        (self._folder / f"{key}.partial").write_text(mark, encoding="utf-8")

    def marked(self, key: str) -> str:
        """What was marked last; empty if nothing was."""
        try:
            return (self._folder / f"{key}.partial").read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def trust(self, key: str) -> None:
        """Takes a table as whole that another process of this run has just written."""
        self._checked.add(key)

    def has(self, key: str) -> bool:
        """Whether the table is there and whole. Each is checked once."""
        if key not in self._checked:
            note = self.note(key)
            file = self._file(key)
            if note is None or not file.is_file() or file_sha256(file) != note.get("sha256"):
                return False
            self._checked.add(key)
        return True

    def write(self, key: str, *pieces: pa.Table) -> None:
        """Writes a table, in pieces that can be read apart. Raises RunError where the disk refuses, for
        which no step is to blame."""
        try:
            self._write(key, pieces)
        except OSError as error:
            raise refused(self._folder, error) from error
        self._checked.add(key)

    def _write(self, key: str, pieces: Sequence[pa.Table]) -> None:
        file = self._file(key)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        try:
            with pq.ParquetWriter(partial, pieces[0].schema, compression="zstd") as writer:
                for piece in pieces:
                    writer.write_table(piece, row_group_size=max(1, piece.num_rows))
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
        self.write_note(key, {"sha256": file_sha256(file)})
        (self._folder / f"{key}.partial").unlink(missing_ok=True)

    def rows(self, key: str) -> int:
        """The number of rows of a table that is there."""
        return int(pq.read_metadata(self._file(key)).num_rows)

    def bytes_of(self, key: str, column: str) -> int:
        """About how many bytes a column has of a table that is there."""
        told = pq.read_metadata(self._file(key))
        groups = (told.row_group(number) for number in range(told.num_row_groups))
        return sum(
            group.column(number).total_uncompressed_size
            for group in groups
            for number in range(group.num_columns)
            if group.column(number).path_in_schema == column
        )

    def read(self, key: str) -> pa.Table:
        """Reads a table that is there."""
        return pq.read_table(self._file(key))

    def read_columns(self, key: str, names: Sequence[str]) -> pa.Table:
        """Reads those of these columns that a table has."""
        there = set(self.schema(key).names)
        return pq.read_table(self._file(key), columns=[name for name in names if name in there])

    def schema(self, key: str) -> pa.Schema:
        """The columns of a table that is there."""
        return pq.read_schema(self._file(key))

    def read_piece(self, key: str, piece: int) -> pa.Table:
        """Reads a piece of a table that is there."""
        with pq.ParquetFile(self._file(key)) as file:
            return file.read_row_group(piece)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.parquet"
