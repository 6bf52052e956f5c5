"""Rows of JSON, JSON lines, CSV, TSV and Parquet.

A reader takes a file's path (for errors) and its decompressed bytes. It yields each row with its place,
``file:number`` (lines in text formats, else rows), or a bad row.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from engine import Bad, RunError, json_of

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row] | Bad]
Reader = Callable[[Path, IO[bytes]], Rows]

UNREADABLE = (ArithmeticError, LookupError, ValueError)
"""Errors that Arrow raises for values that Python cannot represent, such as dates too far away."""
_TURNS = frozenset({"messages", "conversations", "conversation", "prompt", "completion", "tools"})
"""Columns that hold lists. An object with one of them is a row, not a container of rows."""
_LONGEST = 64 * 2**20
"""Bytes, or characters of CSV and TSV, of the longest line that is read."""
_TOO_LONG = f"a line of more than {_LONGEST >> 20} Mi bytes"


def json_lines(path: Path, file: IO[bytes]) -> Rows:
    """Rows of JSON lines: one object per line."""
    for number, line in enumerate(_lines(file), 1):
        place = f"{path.as_posix()}:{number}"
        if line is None:
            yield Bad(place, "too-long", _TOO_LONG)
            continue
        if not line.strip():
            continue
        try:
            row = json_of(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError as error:
            yield Bad(place, "not-utf-8", f"not UTF-8 text (byte {error.start} of the line)")
        except ValueError as error:
            yield Bad(place, "not-json", f"not JSON: {error}")
        else:
            yield _row(place, row)


def json_file(path: Path, file: IO[bytes]) -> Rows:
    """Rows of JSON: a list of objects, an object with one such list, an object, or JSON lines.

    Raises RunError for anything else.
    """
    raw = file.read()
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise not_utf_8(path, error) from None
    except RecursionError as error:
        raise RunError(f"{path}: not JSON: {error}") from None
    except json.JSONDecodeError as error:
        if _first_line_is_a_row(raw):
            yield from json_lines(path, io.BytesIO(raw))
            return
        raise RunError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    for number, row in enumerate(_listed(data), 1):
        yield _row(f"{path.as_posix()}:{number}", row)


def comma_separated(path: Path, file: IO[bytes]) -> Rows:
    """Rows of CSV with a header; the separator is its most frequent of comma, semicolon and tab."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    return _separated(path, text, None)


def tab_separated(path: Path, file: IO[bytes]) -> Rows:
    """Rows of TSV with a header."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    return _separated(path, text, "\t")


def parquet(path: Path, file: IO[bytes]) -> Rows:
    """Rows of all row groups. Raises RunError for a damaged file."""
    import pyarrow.parquet

    # Parquet is read from its end, so a compressed file must be read whole.
    plain = isinstance(getattr(file, "raw", None), io.FileIO)
    try:
        source = file if plain else io.BytesIO(file.read())
        with pyarrow.parquet.ParquetFile(source, page_checksum_verification=True) as opened:
            for number, row in enumerate(arrow_rows(opened.iter_batches(1024)), 1):
                yield f"{path.as_posix()}:{number}", row
    except (pyarrow.ArrowException, *UNREADABLE) as error:
        raise RunError(f"{path}: not Parquet, or damaged: {error}") from error


def arrow_rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The rows of Arrow's record batches.

    In Arrow all structs of a column have the same fields, so a turn of a conversation has
    `tool_calls: null` if any other turn has tool calls. Such null fields are dropped.
    """
    for batch in batches:
        for row in batch.to_pylist():
            yield {column: _without_nulls(value) for column, value in row.items()}


def not_utf_8(path: Path, error: UnicodeDecodeError, position: int = 0) -> RunError:
    """The error for text in another encoding; ``position``: bytes before those that were decoded."""
    place = position + error.start
    return RunError(
        f"{path}: not UTF-8 text (byte {place} is 0x{error.object[error.start]:02x})",
        hint="convert it (Western European text from Windows by "
        f"`iconv -f WINDOWS-1252 -t UTF-8 {path.name}`), or leave it out",
    )


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines; None for one that is too long, which is never in memory as a whole."""
    while line := file.readline(_LONGEST + 1):
        if len(line) <= _LONGEST:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(2**20)
        yield None


def _text_lines(path: Path, text: io.TextIOWrapper) -> Iterator[str]:
    """The lines. Raises RunError for one that is too long."""
    for number, line in enumerate(iter(partial(text.readline, _LONGEST + 1), ""), 1):
        if len(line) > _LONGEST:
            raise RunError(
                f"{path.as_posix()}:{number}: {_TOO_LONG}", hint="shorten it, or leave the file out"
            )
        yield line


def _row(place: str, row: Any) -> tuple[str, Row] | Bad:
    if isinstance(row, dict):
        return place, row
    return Bad(place, "no-object", f"{type(row).__name__}, not an object with fields")


def _first_line_is_a_row(raw: bytes) -> bool:
    line = raw.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    try:
        return isinstance(json_of(line), dict)
    except ValueError:
        return False


def _listed(data: Any) -> list[Any]:
    if isinstance(data, dict) and not _TURNS & data.keys():
        lists = [v for v in data.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        data = lists[0] if len(lists) == 1 else data
    return data if isinstance(data, list) else [data]


def _separated(path: Path, text: io.TextIOWrapper, delimiter: str | None) -> Rows:
    csv.field_size_limit(_LONGEST)  # process-wide; the default, 131,072 characters, is too short
    try:
        given = _text_lines(path, text)
        start = next(given, "")
        delimiter = delimiter or max(",;\t", key=start.count)
        lines = csv.reader(chain([start], given), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            place = f"{path.as_posix()}:{lines.line_num + 1}"
            try:
                values = next(lines, None)
            except csv.Error as error:
                if header is None or re.search("end of data|field limit", str(error)):
                    raise RunError(
                        f"{place}: not CSV from here on: {error}",
                        hint="a quote that opens here is never closed; close it, or double it",
                    ) from None
                yield Bad(place, "not-csv", f"not CSV: {error}")
                continue
            if values is None:
                return
            if header is None:
                header = _header(place, values)
            elif len(values) == len(header):
                yield place, dict(zip(header, values, strict=True))
            elif values:
                told = f"{len(values)} values, but the header has {len(header)} columns"
                yield Bad(place, "wrong-columns", told)
    except UnicodeDecodeError as error:
        raise not_utf_8(path, error) from None
    finally:
        text.detach()  # else it would close the caller's file


def _header(place: str, names: list[str]) -> list[str]:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise RunError(f"{place}: two columns are named '{twice}'", hint="rename one of them")
    return names


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        kept = ((k, v) for k, v in value.items() if v is not None or k == "content")
        return {key: _without_nulls(part) for key, part in kept}
    if isinstance(value, list):
        return [_without_nulls(part) for part in value]
    return value
