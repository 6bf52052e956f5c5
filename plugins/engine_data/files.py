"""Local files: one document a text file, one record a line of JSON lines or a row of Parquet."""

from __future__ import annotations

import difflib
import glob
import json
from collections.abc import Callable, Iterator, Mapping
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
        for path in self._files():
            read = _READERS.get("".join(path.suffixes[-2:])) or _READERS.get(path.suffix)
            try:
                if read is None:
                    yield from self._document(path)
                else:
                    for place, row in read(path):
                        yield self._record(place, row)
            except OSError as error:
                raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error

    def _files(self) -> list[Path]:
        found: dict[Path, None] = {}
        for pattern in self._config.paths:
            matches = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
            files = [p for p in matches if p.is_file()]
            if not files:
                raise RunError(f"files: no file matches '{pattern}'", mend=_suggestion(pattern))
            found.update(dict.fromkeys(files))
        return sorted(found)

    def _document(self, path: Path) -> Iterator[Record]:
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RunError(
                f"{path}: not UTF-8 text (byte {error.start})", mend="convert it, or leave it out"
            ) from None
        if "\0" in text:
            raise RunError(
                f"{path}: a binary file where text should be (byte {raw.index(0)} is NUL)",
                mend="narrow the glob so that it matches text only",
            )
        if text.strip():
            yield Text(
                id=path.as_posix(), source=path.as_posix(), license=self._config.license, text=text
            )

    def _record(self, place: str, row: Mapping[str, Any]) -> Record:
        if self._config.records == "text" and self._config.text_field in row:
            row = {**row, "text": row[self._config.text_field]}
        row = {"license": self._config.license, **row}
        source = place.rpartition(":")[0]
        return record_from_row(self._config.records, row, id=place, source=source)


def build(config: Files, context: Context) -> FilesSource:
    """The source."""
    return FilesSource(config)


Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _json_lines(path: Path) -> Rows:
    with path.open("rb") as file:
        yield from _parse_lines(path, file)


def _zstd_json_lines(path: Path) -> Rows:
    try:
        import zstandard
    except ImportError as error:
        raise RunError(f"{path}: needs zstandard", mend="pip install 'training-engine[data]'") from error
    import io

    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as raw:
            yield from _parse_lines(path, io.BufferedReader(raw))
    except zstandard.ZstdError as error:
        raise RunError(f"{path}: not zstd, or cut off ({error})") from error


def _parse_lines(path: Path, lines: Any) -> Rows:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise RunError(f"{path}:{number}: a {type(row).__name__}, not an object with fields")
        yield f"{path.as_posix()}:{number}", row


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.as_posix()}:{number}", row
    except pyarrow.ArrowInvalid as error:
        raise RunError(f"{path}: not Parquet: {error}") from error


_READERS: Mapping[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".jsonl.zst": _zstd_json_lines,
    ".parquet": _parquet,
}


def _suggestion(pattern: str) -> str:
    folder = Path(pattern).parent
    while "*" in str(folder) or not folder.is_dir():
        folder = folder.parent
    names = sorted(p.name for p in islice(folder.iterdir(), 1000))
    near = difflib.get_close_matches(Path(pattern).name, names, n=1) or names[:3]
    return f"in '{folder.resolve().name}' there is: {', '.join(near) or 'nothing'}"
