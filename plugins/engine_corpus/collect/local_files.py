"""Sources that read local files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

from engine import Bad, DataSource, Record, RunError, Text
from engine.files import each_once, expanded, matches, unmatched, version_of
from engine_corpus.collect.contents import MB, UnusableError, contents, unreadable

T = TypeVar("T")
_PART = 32 * 2**20
"""Bytes of files that make a part, unless a single one has more."""
_SMALLER = re.compile(r"(.+) \[(\d+)\]", re.DOTALL)


def local_files(kind: str, paths: Sequence[str]) -> list[Path]:
    """The files that the globs of a source of this kind match, each once, sorted by name.

    Raises RunError for a glob that matches no file, and for folders that cannot be read.
    """
    found: list[Path] = []
    try:
        for pattern in map(expanded, paths):
            # A link that leads nowhere is kept, so that reading reports it.
            files = [path for path in matches(pattern) if path.is_file() or not path.exists()]
            if not files:
                raise RunError(f"{kind}: no file matches '{pattern}'", hint=unmatched(pattern).hint)
            found += files
        return each_once(found)
    except OSError as error:
        raise unreadable(", ".join(paths), error) from error


def version(paths: Iterable[Path]) -> str:
    """What changes with the files: a hash of names, sizes and times. Raises RunError."""
    try:
        return version_of(paths)
    except OSError as error:
        raise unreadable("", error) from error


def size_of(path: Path) -> int:
    """The file's size in bytes; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def grouped(items: Iterable[tuple[T, int]]) -> Iterator[list[T]]:
    """Items that come with their sizes in bytes, in order, in groups that make a part each."""
    group: list[T] = []
    total = 0
    for item, size in items:
        group.append(item)
        total += size
        if total >= _PART:
            yield group
            group, total = [], 0
    if group:
        yield group


def gone(kind: str, part: str) -> RunError:
    """The error for a part that does not exist any more."""
    return RunError(
        f"{kind}: there is no part '{part}'", hint="the files have changed: run it again"
    )


class FileDocuments(DataSource):
    """Base of sources that make a document of each file. A part is some files, named after the first; a
    smaller one has their number behind it: ``web/a.html [2]``.

    ``kind``: the source's type, for messages.
    """

    kind: str
    text_share: float | None = None
    """Bytes of text that a byte of such files usually gives; None where nobody can say."""

    def __init__(self, paths: Sequence[str], max_mb: float) -> None:
        self._paths = paths
        self.most = int(max_mb * MB)

    def document(self, name: str, raw: bytes) -> Text:
        """The document of a file's content. Raises UnusableError."""
        raise NotImplementedError

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`. Raises RunError for a glob that matches no file."""
        return list(self._parts)

    def split(self, part: str) -> Sequence[str]:
        """See :class:`engine.DataSource`: down to single files."""
        files = self._files(part)
        half = len(files) // 2
        pieces = [files[:half], files[half:]] if half else [files]
        return [f"{piece[0].as_posix()} [{len(piece)}]" for piece in pieces]

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: names, sizes and times of its files. Raises RunError."""
        return version(self._files(part))

    def size(self, part: str) -> int | None:
        """See :class:`engine.DataSource`."""
        if self.text_share is None:
            return None
        return int(sum(map(size_of, self._files(part))) * self.text_share)

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError for a file that may not be read."""
        return map(self._record, self._files(part))

    def _record(self, path: Path) -> Record | Bad:
        name = path.as_posix()
        try:
            return self.document(name, contents(path, self.most))
        except UnusableError as error:
            return error.at(name)

    def _files(self, part: str) -> Sequence[Path]:
        if part in self._parts:
            return self._parts[part]
        found = _SMALLER.fullmatch(part)
        files = list(chain.from_iterable(self._parts.values()))
        names = [path.as_posix() for path in files]
        if found is None or found[1] not in names:
            raise gone(self.kind, part)
        start = names.index(found[1])
        return files[start : start + int(found[2])]

    @cached_property
    def _parts(self) -> Mapping[str, Sequence[Path]]:
        sized = ((path, size_of(path)) for path in local_files(self.kind, self._paths))
        return {group[0].as_posix(): group for group in grouped(sized)}
