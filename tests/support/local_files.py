"""Local files of rows: contents to write, and what the source `files` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import zstandard
from engine_data.config import Files
from engine_data.sources.files import build
from support.sources import records_of

from engine import Bad
from engine.testing import StandAloneContext


def read(*paths: object, **options):
    config = Files(paths=tuple(map(str, paths)), **options)
    return records_of(build(config, StandAloneContext()))


def good_and_bad(*paths: object, **options) -> tuple[int, list[Bad]]:
    records = read(*paths, **options)
    bad = [record for record in records if isinstance(record, Bad)]
    return len(records) - len(bad), bad


def texts(*paths: object, **options) -> list[str]:
    return [record.text for record in read(*paths, **options)]


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def parquet(file: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), file, write_page_checksum=True)
    return file
