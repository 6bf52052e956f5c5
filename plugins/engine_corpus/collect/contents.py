"""Whole files in memory, within a limit, and decompressed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa

from engine import Bad, RunError, read_regular

MB = 10**6
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
"""Names of compressions by the first bytes of what they give."""


class UnusableError(Exception):
    """Content that makes no document; ``reason`` in kebab-case, as :class:`engine.Bad` has it."""

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason

    def at(self, place: str) -> Bad:
        """The bad row for the place at which the content is."""
        return Bad(place, self.reason, str(self))


def contents(path: Path, most: int) -> bytes:
    """A regular file's bytes, decompressed if they are compressed.

    Raises UnusableError for a file that is gone, empty or damaged, has more than ``most`` bytes or
    changes meanwhile, and RunError for one that may not or cannot be read.
    """
    try:
        before = path.stat()
        if before.st_size > most:
            raise too_large(most)
        raw = read_regular(path, most)
        after = path.stat()
    except FileNotFoundError:
        raise UnusableError("vanished", "the file is gone, or a link leads nowhere") from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise too_large(most) from None
        raise unreadable(path, error) from error
    if _state(before) != _state(after):
        raise UnusableError("changed-while-read", "the file changed while it was read")
    return decompressed(raw, most)


def decompressed(raw: bytes, most: int) -> bytes:
    """The bytes, decompressed by gzip, bzip2 or zstd if they begin as its output does.

    Raises UnusableError for damaged or empty content, and for more than ``most`` bytes.
    """
    found = next((name for magic, name in _COMPRESSIONS.items() if raw.startswith(magic)), None)
    if found is not None:
        try:
            with pa.CompressedInputStream(pa.BufferReader(raw), found) as stream:
                raw = stream.read(most + 1)
        except (OSError, pa.ArrowException) as error:
            raise UnusableError("damaged", f"damaged {found} content: {error}") from None
    if len(raw) > most:
        raise too_large(most)
    if not raw:
        raise UnusableError("empty", "there is nothing in it")
    return raw


def too_large(most: int) -> UnusableError:
    """The error for content of more than ``most`` bytes."""
    return UnusableError("too-large", f"larger than `max_mb` allows, {most / MB:,g} MB")


def unreadable(place: object, error: OSError) -> RunError:
    """The error for a file that the system refuses to read."""
    where = place if error.filename is None else error.filename
    return RunError(
        f"{where}: cannot be read: {error.strerror or error}",
        hint="mend its rights, or narrow the glob so that it is left out",
    )


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
