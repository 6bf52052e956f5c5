"""Files and rows that are damaged or of another kind are errors that say where."""

from __future__ import annotations

import pyarrow
import pyarrow.parquet
import pytest
from support.local_files import (
    good_and_bad as _good_and_bad,
    lines as _lines,
    parquet as _parquet,
    read as _read,
    zstd as _zstd,
)

from engine import RunError

_GOOD = {"text": "good"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"text\0text", r"a\.txt: a binary file where text should be \(byte 4 is NUL\)"),
        ("a.md", b"caf\xe9", r"a\.md: not UTF-8 text \(byte 3 is 0xe9\); convert it .*iconv"),
        (
            "a.jsonl",
            b"\n" + b'{"text": "\xff"}',
            r"a\.jsonl:2: not UTF-8 text \(byte 10 of the line",
        ),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not JSON: it is nested too deeply"),
        ("a.jsonl", b"PK\x03\x04\0\0", r"a\.jsonl: its content is a zip archive"),
        ("a.jsonl", b"[]\n[]\n", r"a\.jsonl:1: list, not an object.*none of its first 2 rows"),
        ("a.jsonl", _lines({"text": 7}), r"a\.jsonl:1: field 'text' is int, not text"),
        ("a.jsonl.zst", _zstd(_lines(*[_GOOD] * 99))[:-3], r"a\.jsonl\.zst: .*Truncated"),
        (
            "a.jsonl.zst",
            _lines(_GOOD),
            r"a\.jsonl\.zst: not zstd, or damaged: ZSTD decompress failed",
        ),
        ("a.jsonl.zst", b"", r"a\.jsonl\.zst: not zstd, or damaged: it is empty"),
        ("a.parquet", b"", r"a\.parquet: not Parquet, or damaged: .*size is 0"),
        ("a.parquet", _lines(_GOOD), r"a\.parquet: not Parquet, or damaged"),
    ],
)
def test_a_file_of_another_kind_is_an_error_that_says_where(notes, name, content, told):
    """The file, and the line or byte at which it goes wrong."""
    (notes / name).write_bytes(content)
    with pytest.raises(RunError, match=told):
        _read("*")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"body": ["a"]}, r"a\.parquet:1: its rows are of no known shape.*columns: {text: body}"),
        ({"text": [1.5]}, r"a\.parquet:1: field 'text' is float, not text"),
    ],
)
def test_a_column_of_another_kind_is_an_error_that_names_the_row(notes, columns, told):
    """Rows count from 1, as lines do."""
    _parquet(notes / "a.parquet", **columns)
    with pytest.raises(RunError, match=told):
        _read("a.parquet")


def test_a_damaged_parquet_file_is_an_error_not_other_text(notes):
    """Cut off anywhere, with a flipped bit among its values, or with what is no text in a column."""
    whole = _parquet(notes / "a.parquet", text=[f"row {i}" * 9 for i in range(3000)]).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content in (whole[:-1], whole[: len(whole) // 2], bytes(flipped)):
        (notes / "a.parquet").write_bytes(content)
        with pytest.raises(RunError, match=r"a\.parquet: (not Parquet, or damaged|cannot be read)"):
            _read("a.parquet")
    buffers = pyarrow.array([b"caf\xe9"]).buffers()
    _parquet(notes / "a.parquet", text=pyarrow.Array.from_buffers(pyarrow.string(), 1, buffers))
    with pytest.raises(RunError, match=r"a\.parquet: .*'utf-8' codec can't decode byte 0xe9"):
        _read("a.parquet")


@pytest.mark.parametrize(
    ("line", "reason", "what"),
    [
        (b'{"text": \n', "not-json", "not JSON: Expecting value"),
        (b'{"text": "\xff"}\n', "not-utf-8", "not UTF-8 text (byte 10 of the line)"),
        (b"[" * 100_000 + b"\n", "not-json", "not JSON: it is nested too deeply"),
        (b'["a"]\n', "no-object", "list, not an object with fields"),
        (b'{"body": 1}\n', "missing-field", "no column 'text', which a row of texts has"),
        (b'{"text": null}\n', "wrong-type", "field 'text' is NoneType, not text"),
    ],
)
def test_a_bad_row_is_given_as_such_with_its_line(notes, line, reason, what):
    """The rows around it are read."""
    (notes / "a.jsonl").write_bytes(_lines(_GOOD) + line + _lines(_GOOD))
    good, (bad,) = _good_and_bad("a.jsonl")
    assert (good, bad.id, bad.reason) == (2, "a.jsonl:2", reason)
    assert bad.what.startswith(what)
