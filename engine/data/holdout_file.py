"""The held-out documents of a prepared folder: ``holdout.jsonl``, one record a line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from engine.contracts.records import Record, Text, record_to_row, row_to_record
from engine.storage import manifest

HELD_OUT = "holdout.jsonl"


def write_held_out(record: Record, file: IO[str]) -> None:
    """Appends a record to the file."""
    file.write(json.dumps(record_to_row(record), default=str) + "\n")


def held_out(folder: Path) -> Iterator[Record]:
    """The held-out documents of a prepared folder. Raises RunError when they are damaged."""
    manifest.verify(folder, HELD_OUT)
    yield from _records(folder)


def held_out_card(folder: Path) -> dict[str, Any]:
    """Size of the held-out text, and its bits per byte when compressed by general-purpose programs,
    as a figure to compare a model's bits per byte with."""
    texts = [record.text.encode() for record in _records(folder) if isinstance(record, Text)]
    whole = b"".join(texts)
    card: dict[str, Any] = {"documents": len(texts), "bytes": len(whole)}
    if whole:
        card["gzip_bits_per_byte"] = round(8 * len(gzip.compress(whole, 9)) / len(whole), 4)
        card["xz_bits_per_byte"] = round(8 * len(lzma.compress(whole, preset=9)) / len(whole), 4)
    return card


def _records(folder: Path) -> Iterator[Record]:
    with (folder / HELD_OUT).open(encoding="utf-8") as lines:
        yield from (row_to_record(json.loads(line)) for line in lines)
