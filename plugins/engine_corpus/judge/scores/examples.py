"""Reads texts that a spec names as examples: text files, JSON lines and Parquet files."""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine import RunError, json_of, neighbours, read_regular


def fault_of(patterns: Sequence[str]) -> str:
    """Names the first pattern that leads to no file; empty if all lead to some."""
    for pattern in patterns:
        if not _matches(pattern):
            return f"no file matches '{pattern}': {neighbours(Path(os.path.expanduser(pattern)))}"
    return ""


class Examples:
    """The files that patterns lead to, each once, in the order of their names.

    Raises RunError naming the pattern that leads to no file, or the file that cannot be read.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if wrong := fault_of(patterns):
            raise RunError(wrong)
        self._files = sorted({path for pattern in patterns for path in _matches(pattern)})

    def digest(self) -> str:
        """A hash of the files' contents, in the order of their names."""
        found = hashlib.blake2b(digest_size=16)
        for path in self._files:
            found.update(hashlib.blake2b(_bytes_of(path), digest_size=16).digest())
        return found.hexdigest()

    def texts(self) -> Iterator[str]:
        """The text of each text file, and of each row of the other files."""
        for path in self._files:
            yield from _texts_of(path)


def _matches(pattern: str) -> list[Path]:
    name = os.path.expanduser(pattern)
    found = [name] if os.path.exists(name) else glob.glob(name, recursive=True)
    return [Path(path) for path in found if os.path.isfile(path)]


def _bytes_of(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error


def _texts_of(path: Path) -> Iterator[str]:
    content = _bytes_of(path)
    if path.suffix == ".parquet":
        yield from _parquet(path, content)
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{path}: byte {error.start} is not UTF-8", hint="convert the file to UTF-8 text"
        ) from error
    if path.suffix != ".jsonl":
        yield text
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _row(f"{path}:{number}", line)


def _parquet(path: Path, content: bytes) -> Iterator[str]:
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(io.BytesIO(content), columns=["text"]).column("text")
    except (ValueError, OSError, LookupError) as error:  # pyarrow's errors among them
        raise RunError(
            f"{path}: cannot be read as Parquet with a column 'text': {error}"
        ) from error
    yield from (text for text in rows.to_pylist() if text is not None)


def _row(place: str, line: str) -> str:
    try:
        row = json_of(line)
    except ValueError as error:
        raise RunError(f"{place}: is not JSON: {error}") from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise RunError(f"{place}: has no text in 'text'", hint='a line is {"text": "…"}')
    return text
