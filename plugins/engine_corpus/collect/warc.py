"""Source ``warc``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from engine import Bad, Context, DataSource, Record, Text
from engine_corpus.collect.config import Warc
from engine_corpus.collect.contents import MB, UnusableError, unreadable
from engine_corpus.collect.local_files import gone, local_files, size_of, version
from engine_corpus.collect.pages import decoded, page_of
from engine_corpus.collect.warc_archive import Entry, entries

_PART = 64 * 2**20
"""Bytes of an archive that make a part."""
_SMALLER = re.compile(r"(.+)\[(\d+)-(\d+)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Range:
    """The records of an archive that begin in a range of its bytes; ``end``: None for all the rest."""

    path: Path
    start: int
    end: int | None


class WarcSource(DataSource):
    """The pages of web archives. A part is a range of an archive, ``crawl.warc.gz#0``; a smaller one
    has its bytes behind it: ``crawl.warc.gz#0[0-1024]``.

    Only reading from the beginning tells where records begin. This takes 3 % of the time that the pages
    take, and parts that are read one after the other share it.
    """

    def __init__(self, config: Warc, part: int = _PART) -> None:
        self._config = config
        self._part = part
        self._most = int(config.max_mb * MB)
        self._last: _Walk | None = None

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`. Raises RunError for a glob that matches no file."""
        return list(self._ranges)

    def split(self, part: str) -> Sequence[str]:
        """See :class:`engine.DataSource`: down to single records."""
        whole = self._range(part)
        end = size_of(whole.path) if whole.end is None else whole.end
        half = (whole.start + end) // 2
        bounds = [whole.start, half, end] if half > whole.start else [whole.start, end]
        found = _SMALLER.fullmatch(part)
        name = found[1] if found and part not in self._ranges else part
        return [f"{name}[{start}-{end}]" for start, end in pairwise(bounds)]

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: name, size and time of the archive. Raises RunError."""
        return version([self._range(part).path])

    def size(self, part: str) -> int:
        """See :class:`engine.DataSource`: pages are five times their text, and compressed five times
        smaller."""
        whole = self._range(part)
        end = size_of(whole.path) if whole.end is None else whole.end
        return (end - whole.start) // (1 if whole.path.suffix == ".gz" else 5)

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError for an archive that may not be read."""
        wanted = self._range(part)
        before = version([wanted.path])
        try:
            for entry in self._entries(wanted):
                yield self._record(wanted.path, entry)
        except FileNotFoundError:
            yield Bad(part, "vanished", "the archive is gone, or a link leads nowhere")
            return
        except OSError as error:
            raise unreadable(wanted.path, error) from error
        if version([wanted.path]) != before:
            yield Bad(part, "changed-while-read", "the archive changed while it was read")

    def _entries(self, wanted: _Range) -> Iterator[Entry]:
        walk, self._last = self._last, None
        if walk is None or walk.path != wanted.path or walk.reached > wanted.start:
            walk = _Walk(wanted.path, self._most)
        for entry in walk.until(wanted.end):
            if entry.position >= wanted.start:
                yield entry
        self._last = walk if wanted.end is not None else None

    def _record(self, path: Path, entry: Entry) -> Record | Bad:
        config = self._config
        name = path.as_posix()
        place = f"{name}:{entry.position}" + (f"+{entry.number}" if entry.number else "")
        try:
            text = self._text(entry)
        except UnusableError as error:
            return error.at(place)
        meta = {"url": entry.url, "date": entry.date}
        return Text(id=place, source=name, license=config.license, text=text, meta=meta)

    def _text(self, entry: Entry) -> str:
        config = self._config
        if isinstance(entry.payload, UnusableError):
            raise entry.payload
        if entry.plain:
            text = decoded(entry.payload, "utf-8").replace("\r\n", "\n").strip()
            if not text:
                raise UnusableError("no-text", "there is only white space in it")
            return text
        return page_of(
            entry.payload,
            charset=entry.charset,
            main_content=config.main_content,
            links=config.links,
        ).text

    def _range(self, part: str) -> _Range:
        if part in self._ranges:
            return self._ranges[part]
        found = _SMALLER.fullmatch(part)
        if found is None or found[1] not in self._ranges:
            raise gone("warc", part)
        return _Range(self._ranges[found[1]].path, int(found[2]), int(found[3]))

    @cached_property
    def _ranges(self) -> Mapping[str, _Range]:
        found = {}
        for path in local_files("warc", self._config.paths):
            count = max(1, -(-size_of(path) // self._part))
            for number in range(count):
                end = None if number == count - 1 else (number + 1) * self._part
                found[f"{path.as_posix()}#{number}"] = _Range(path, number * self._part, end)
        return found


class _Walk:
    """The entries of an archive, one range after the other; ``reached``: where the last range ended."""

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self.reached = 0
        self._entries = entries(path, most)
        self._next: Entry | None = None

    def until(self, end: int | None) -> Iterator[Entry]:
        """The further entries that begin before ``end``."""
        while entry := self._next or next(self._entries, None):
            if end is not None and entry.position >= end:
                self._next, self.reached = entry, end
                return
            self._next = None
            yield entry
        self.reached = end or 0


def build(config: Warc, context: Context) -> WarcSource:
    """Builds the source."""
    return WarcSource(config)
