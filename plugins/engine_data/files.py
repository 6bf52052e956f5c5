"""Local files: one document a text file, one record a line of JSON lines or a row of Parquet."""

from __future__ import annotations

import difflib
import glob
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from engine import Context, Record, RunError, Text, record_from_row
from engine_data.config import Files


class FilesSource:
    """The files that the globs match, sorted by name; each once."""

    def __init__(self, config: Files) -> None:
        self._config = config

    def records(self, part: int, of: int) -> Iterator[Record]:
        """See :class:`engine.DataSource`. Raises RunError naming the file and the line."""
        return islice(self._all(), part, None, of)

    def _all(self) -> Iterator[Record]:
        with _naming(", ".join(self._config.paths)):
            paths = self._files()
        for path in paths:
            name = path.name.lower()
            read = next((r for suffix, r in _READERS.items() if name.endswith(suffix)), None)
            with _naming(path):
                if read is None:
                    yield self._document(path)
                else:
                    for number, row in read(path):
                        yield self._record(path, number, row)

    def _files(self) -> list[Path]:
        found: dict[str, Path] = {}
        for pattern in self._config.paths:
            # A link to a file that is gone stays in, so that reading tells of it.
            files = [path for path in _matches(pattern) if path.is_file() or not path.exists()]
            if not files:
                raise RunError(f"files: no file matches '{pattern}'", mend=_suggestion(pattern))
            for path in files:
                found.setdefault(os.path.abspath(path), path)
        return sorted(found.values())

    def _document(self, path: Path) -> Text:
        if self._config.records != "text":
            raise RunError(
                f"{path}: a text file, where {self._config.records} records should be",
                mend="put them into JSON lines or Parquet, or narrow the glob",
            )
        raw = path.read_bytes()
        if b"\0" in raw:
            raise RunError(
                f"{path}: a binary file where text should be (byte {raw.index(0)} is NUL)",
                mend="narrow the glob so that it matches text only",
            )
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RunError(
                f"{path}: not UTF-8 text (byte {error.start})", mend="convert it, or leave it out"
            ) from None
        return Text(
            id=path.as_posix(), source=path.as_posix(), license=self._config.license, text=text
        )

    def _record(self, path: Path, number: int, row: Mapping[str, Any]) -> Record:
        config, place = self._config, f"{path.as_posix()}:{number}"
        if config.records == "text" and config.text_field != "text":
            if config.text_field not in row:
                raise RunError(
                    f"{place}: no field '{config.text_field}', which text_field names",
                    mend=f"it has {', '.join(row) or 'none'}",
                )
            row = {
                "text" if k == config.text_field else k: v for k, v in row.items() if k != "text"
            }
        return record_from_row(
            config.records, row, id=place, source=path.as_posix(), license=config.license
        )


def build(config: Files, context: Context) -> FilesSource:
    """The source."""
    return FilesSource(config)


Rows = Iterator[tuple[int, Mapping[str, Any]]]


def _json_lines(path: Path) -> Rows:
    with path.open("rb") as file:
        yield from _parse_lines(path, file)


def _zstd_json_lines(path: Path) -> Rows:
    # pyarrow reads frames that follow each other, and sees where a file was cut off; the
    # zstandard package does neither by itself.
    import pyarrow

    if not path.stat().st_size:
        raise RunError(f"{path}: not zstd: it has no bytes at all")
    with pyarrow.OSFile(str(path)) as file, pyarrow.CompressedInputStream(file, "zstd") as raw:
        yield from _parse_lines(path, io.BufferedReader(raw))


def _parse_lines(path: Path, lines: Any) -> Rows:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise RunError(f"{path}:{number}: {type(row).__name__}, not an object with fields")
        yield number, row


def _parquet(path: Path) -> Rows:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            rows = (row for batch in file.iter_batches(1024) for row in batch.to_pylist())
            yield from enumerate(rows, 1)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not Parquet, or damaged: {error}") from error


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".jsonl.zst": _zstd_json_lines,
    ".parquet": _parquet,
}


@contextmanager
def _naming(place: object) -> Iterator[None]:
    """Names what the system does not let us read."""
    try:
        yield
    except OSError as error:
        where = place if error.filename is None else error.filename
        raise RunError(f"{where}: cannot be read: {error.strerror or error}") from error


def _matches(pattern: str) -> list[Path]:
    """What a glob matches, or the one file of exactly this name. Raises OSError.

    A glob passes over folders that may not be read in silence, so they are opened first.
    """
    if Path(pattern).is_file():
        return [Path(pattern)]
    for parent in map(str, Path(pattern).parents):
        for folder in glob.glob(f"{parent}/", recursive=True):
            os.scandir(folder).close()
        if not glob.has_magic(parent):
            break
    return [Path(path) for path in glob.glob(pattern, recursive=True)]


def _suggestion(pattern: str) -> str:
    if Path(pattern).is_dir():
        return f"it is a folder: write '{pattern.rstrip('/')}/**/*', or a narrower glob"
    missing = Path(pattern)
    while not missing.parent.is_dir():
        missing = missing.parent
    folder = missing.parent
    names = sorted(p.name for p in islice(folder.iterdir(), 1000))
    near = difflib.get_close_matches(missing.name, names, n=1) or names[:3]
    return f"in '{folder.resolve().name}' there is: {', '.join(near) or 'nothing'}"
