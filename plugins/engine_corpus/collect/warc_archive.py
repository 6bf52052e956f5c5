"""Records of a web archive in order, past damage."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from engine_corpus.collect.contents import UnusableError, decompressed, too_large

_PAGES = frozenset({"text/html", "application/xhtml+xml"})
"""Media types of pages."""
_GZIP = b"\x1f\x8b\x08"
_WARC = b"WARC/1."
_HEADER = "WARC header"
"""In FastWARC's message about what stands where a header should."""
_BLOCK = 2**20
"""Bytes that are searched at once for the next record."""
_MEMBER = 2**12
"""Compressed bytes that tell whether a record begins there."""
_DECODERS: dict[str, Any] = {"br": BrotliReader, "deflate": partial(GzipReader, zlib=True)}
"""Readers of HTTP's content encodings; gzip is told by its first bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A page of an archive, or damage: ``payload`` is the content, or why there is none.

    ``position``: where its record begins, in bytes of the file; ``number``: counts the entries of this
    position from 0, as records may be compressed together. ``plain``: the payload is plain text in
    UTF-8 rather than HTML; ``charset``: the encoding that the server told; ``url`` and ``date`` are
    those of the record.
    """

    position: int
    payload: bytes | UnusableError
    number: int = 0
    plain: bool = False
    charset: str | None = None
    url: str | None = None
    date: str | None = None


def entries(path: Path, most: int) -> Iterator[Entry]:
    """The pages of an archive and its damage, in order; a payload may have at most ``most`` bytes.

    After damage, reading goes on where the next record begins. Raises OSError where the system refuses
    to read.
    """
    at = (-1, 0)
    with path.open("rb") as file:
        for entry in _past_damage(file, most):
            at = (entry.position, at[1] + 1 if entry.position == at[0] else 0)
            yield replace(entry, number=at[1])


def _past_damage(file: IO[bytes], most: int) -> Iterator[Entry]:
    compressed = file.read(len(_GZIP)) == _GZIP
    start: int | None = 0
    while start is not None:
        file.seek(start)
        reading = _Reading(file, most)
        try:
            yield from reading
            return
        except OSError as error:
            if error.errno is not None:
                raise
            damage = error
        place = start if reading.last is None else reading.last
        if reading.held is not None and _HEADER not in str(damage):
            yield reading.held  # it is whole, but the next record cannot be decompressed
            place += 1
        known = reading.last is None and start > 0  # as the damage that made reading go on here
        start = _next_record(file, place + 1, compressed=compressed)
        then = "nothing more can be read" if start is None else f"reading goes on at {start:,}"
        what = f"damaged, or of another length than its header states: {damage}; {then}"
        if not known:
            yield Entry(place, UnusableError("damaged", what))


class _Reading:
    """Pages from a file's position on. A page is given once the next record is found, as a length that
    is wrong shows only there. After an OSError ``last`` is where the last record begins, if any, and
    ``held`` its page, if that was read."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self.last: int | None = None
        self.held: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        for record in ArchiveIterator(self._file):
            if self.held is not None:
                yield self.held
            self.held, self.last = None, record.stream_pos
            self.held = _entry(record, self._most)
        if self.held is not None:
            yield self.held


def _entry(record: WarcRecord, most: int) -> Entry | None:
    """The page in a record, if any. Raises OSError for a damaged record."""
    for name in ("WARC-Type", "Content-Length"):
        if name not in record.headers:
            raise OSError(f"no {name} in the header")
    stated = record.content_length
    if not _is_page(record):
        if record.reader.consume() < stated:
            raise OSError("the record ends too early")
        return None
    raw = record.reader.read(most + 1)
    if len(raw) < min(stated, most + 1):
        raise OSError("the record ends too early")
    return Entry(
        record.stream_pos,
        _payload(record, raw, most),
        plain=record.record_type == WarcRecordType.conversion,
        charset=record.http_charset and record.http_charset.strip("\"'"),
        url=record.headers.get("WARC-Target-URI"),
        date=record.headers.get("WARC-Date"),
    )


def _is_page(record: WarcRecord) -> bool:
    """Whether a record is a conversion to plain text, a successful response with a page, or a response
    without any content."""
    if record.record_type == WarcRecordType.response:
        http = record.http_headers
        if record.headers.get("Content-Length") == "0" or http is None:
            return record.is_http
        return http.status_code == 200 and record.http_content_type in _PAGES
    if record.record_type == WarcRecordType.conversion:
        return str(record.headers.get("Content-Type")).startswith("text/plain")
    return False


def _payload(record: WarcRecord, raw: bytes, most: int) -> bytes | UnusableError:
    """The content without HTTP's encodings, which many crawlers undo but for the header."""
    try:
        if len(raw) > most:
            raise too_large(most)
        http = record.http_headers
        if http is not None and "chunked" in (http.get("Transfer-Encoding") or "").lower():
            raw = _read(ChunkedReader, raw, most)
        encoding = http is not None and (http.get("Content-Encoding") or "").strip().lower()
        if encoding in _DECODERS:
            raw = _read(_DECODERS[encoding], raw, most)
        return decompressed(raw, most)
    except UnusableError as error:
        return error


def _read(reader: Any, raw: bytes, most: int) -> bytes:
    """What a reader makes of bytes; the bytes themselves if they are not encoded that way."""
    try:
        return bytes(reader(BytesIO(raw)).read(most + 1))
    except OSError:
        return raw


def _next_record(file: IO[bytes], start: int, *, compressed: bool) -> int | None:
    """Where the next record begins, from a position on; None if there is none.

    In compressed archives each record is a gzip member of its own.
    """
    sought = _GZIP if compressed else b"\r\n\r\n" + _WARC
    position, rest = start, b""
    while True:
        file.seek(position + len(rest))
        block = file.read(_BLOCK)
        if not block:
            return None
        block = rest + block
        at = block.find(sought)
        while at >= 0:
            if not compressed:
                return position + at + 4
            if _is_record(file, position + at):
                return position + at
            at = block.find(sought, at + 1)
        rest = block[1 - len(sought) :]
        position += len(block) - len(rest)


def _is_record(file: IO[bytes], position: int) -> bool:
    file.seek(position)
    try:
        head = zlib.decompressobj(wbits=31).decompress(file.read(_MEMBER), len(_WARC))
    except zlib.error:
        return False
    return head == _WARC
