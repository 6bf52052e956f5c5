"""Files of every format that rows and texts come in, compressed or not, and of others."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from engine_data.config import Files, HuggingFace
from engine_data.sources.files import build
from engine_data.sources.hugging_face import build as build_hugging_face
from pydantic import ValidationError
from support.sources import records_of

from engine import Bad, RunError
from engine.testing import StandAloneContext

_ROWS = [{"prompt": f"q{i}", "completion": f"answer, {i}\n"} for i in range(30)]
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def _lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _separated(delimiter: str) -> bytes:
    quoted = (f'{r["prompt"]}{delimiter}"{r["completion"]}"\r\n' for r in _ROWS)
    return "".join([f"\ufeffprompt{delimiter}completion\r\n", *quoted]).encode()


def _parquet() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_ROWS), file, row_group_size=7)
    return file.getvalue()


_CONTENTS = {
    "a.jsonl": _lines(_ROWS),
    "a.json": json.dumps(_ROWS, indent=1).encode(),
    "b.json": json.dumps({"version": "1", "data": _ROWS}).encode(),
    "c.json": _lines(_ROWS),
    "a.csv": _separated(","),
    "b.csv": _separated(";"),
    "a.tsv": _separated("\t"),
    "a.parquet": _parquet(),
}


def _read(*paths: object, **options: Any) -> list[Any]:
    source = build(Files(paths=tuple(map(str, paths)), **options), StandAloneContext())
    return records_of(source)


@pytest.mark.parametrize("compression", _COMPRESS)
@pytest.mark.parametrize("name", _CONTENTS)
def test_a_table_is_read_as_what_it_is(tmp_path, name, compression):
    """The same rows from each format, plain or compressed; a mark at the beginning is no part of it."""
    file = tmp_path / f"{name}{compression}"
    file.write_bytes(_COMPRESS[compression](_CONTENTS[name]))
    records = _read(file)
    assert [{"prompt": r.prompt, "completion": r.completion} for r in records] == _ROWS
    assert all(record.id.startswith(f"{file}:") for record in records)


@pytest.mark.parametrize("compression", _COMPRESS)
def test_a_text_stays_one_document(tmp_path, compression):
    """Whatever it looks like inside."""
    file = tmp_path / f"a.md{compression}"
    file.write_bytes(_COMPRESS[compression](b'{"prompt": 1}\r\na,b\n'))
    assert [record.text for record in _read(file)] == ['{"prompt": 1}\na,b\n']


def test_a_reader_may_stop_at_any_row(tmp_path, monkeypatch):
    """As one does that looks at the first rows only: nothing is printed when the file is closed."""
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: ignored.append(told.exc_value))
    for name, content in _CONTENTS.items():
        (tmp_path / name).write_bytes(content)
        source = build(Files(paths=(str(tmp_path / name),)), StandAloneContext())
        records = source.records(*source.parts())
        assert next(records).prompt == "q0"
        del records
        gc.collect()
    assert ignored == []


def test_rows_of_a_csv_file_are_named_by_their_first_lines(tmp_path):
    """Also after fields of several lines; a field may be long, and a row of other columns is bad."""
    content = f'text,n\n"a\nb",1\n{"x" * 300_000},2\nlost\n\n"un"quoted,3\nlast,4\n'
    (tmp_path / "a.csv").write_text(content)
    records = _read(tmp_path / "a.csv")
    found = [r.reason if isinstance(r, Bad) else len(r.text) for r in records]
    assert found == [3, 300_000, "wrong-columns", "not-csv", 4]
    assert [int(r.id.rpartition(":")[2]) for r in records] == [2, 4, 5, 7, 8]
    assert records[-1].meta == {"n": "4"}


def test_nulls_that_a_table_needs_for_its_columns_are_left_out_of_turns(tmp_path):
    """All turns have the same fields in Parquet; a template sees those that the turn has."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    turns = [{"role": "user", "content": "q"}, call]
    table = pyarrow.Table.from_pylist([{"messages": turns, "note": None}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (record,) = _read(tmp_path / "a.parquet")
    assert (record.messages, record.meta) == (turns, {"note": None})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.zip", b"PK\x03\x04", r"a.zip: the format '.zip' is not supported; convert it"),
        ("a.xlsx", b"PK\x03\x04", "'.xlsx' is not supported"),
        ("a.arrow", b"ARROW1", "'.arrow' is not supported"),
        ("a.tar.gz", gzip.compress(b"x", mtime=0), "'.tar' is not supported"),
        (
            "data.gz",
            gzip.compress(b"x", mtime=0),
            "but no format; name it data.jsonl.gz, data.txt.gz or",
        ),
        (
            "a.txt",
            gzip.compress(b"x", mtime=0),
            "its content is gzip.*; name it a.txt.gz, or unpack",
        ),
        ("a.jsonl", _parquet(), "its content is Parquet"),
        (
            "a.jsonl.gz",
            gzip.compress(b"PK\x03\x04", mtime=0),
            "its content is a zip archive",
        ),
        ("a.jsonl.gz", bz2.compress(b"x"), "its content is bzip2, .*name it a.jsonl.gz.bz2"),
        ("a.jsonl.gz", b"{}\n", "a.jsonl.gz: not gzip, or damaged"),
        ("a.jsonl.xz", lzma.compress(_lines(_ROWS))[:-9], "a.jsonl.xz: not xz, or damaged"),
        ("a.jsonl.bz2", bz2.compress(_lines(_ROWS))[:-9], "a.jsonl.bz2: not bzip2, or damaged"),
        ("a.csv", "text\nété\n".encode("latin-1"), r"not UTF-8 text \(byte 5 is 0xe9\).*iconv"),
        (
            "a.txt",
            "été".encode("utf-16"),
            "text in UTF-16.*convert it: iconv -f UTF-16 -t UTF-8 a.txt",
        ),
        ("a.txt", "plain".encode("utf-16-le"), "text in UTF-16"),
        ("a.jsonl", '{"text": 1}'.encode("utf-16"), "text in UTF-16"),
        ("a.json", b'[{"text": "a"},\n{"text": ]', "a.json:2: not JSON"),
        ("a.json", b"[" * 100_000, "a.json: not JSON: maximum recursion"),
        ("a.json", b'["a", "b"]', "a.json:1: str, not an object.*none of its first 2 rows"),
        ("a.csv", b'text\n"a\nb\nc\n', "a.csv:2: not CSV from here on: .*never closed"),
        ("a.csv", b"text,text\na,b\n", "a.csv:1: two columns are named 'text'"),
    ],
)
def test_what_is_no_text_and_no_known_table_is_an_error(tmp_path, name, content, told):
    """Never one long document: the error says what it is, and how to mend it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=told):
        _read(tmp_path / name)


def test_a_saved_data_set_opens_as_a_path_of_either_source(tmp_path):
    """With its splits, and also where a glob matches the files inside."""
    data = datasets.Dataset.from_list(_ROWS)
    data.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict(train=data, test=data.select([3, 5])).save_to_disk(str(tmp_path / "many"))
    for paths in ([tmp_path / "one"], [tmp_path / "one/*"], [tmp_path / "many/train"]):
        assert [r.prompt for r in _read(*paths)] == [row["prompt"] for row in _ROWS]
    with pytest.raises(RunError, match=r"has several splits; name one of them: '.*/many/train', '"):
        _read(tmp_path / "many")
    for folder, split, count in (("one", "train", 30), ("many", "test", 2)):
        config = HuggingFace(path=str(tmp_path / folder), split=split)
        records = records_of(build_hugging_face(config, StandAloneContext()))
        assert len(records) == count
        assert records[0].schema == "completion"
    config = HuggingFace(path=str(tmp_path / "many"), split="dev")
    with pytest.raises(RunError, match="has no split 'dev'; it has train, test"):
        records_of(build_hugging_face(config, StandAloneContext()))


@pytest.mark.parametrize("name", ["./sets/a", "~/sets/a", "/sets/a", "data/sets/a", "data/a"])
def test_a_missing_folder_is_not_taken_for_a_name_on_the_hub(tmp_path, monkeypatch, name):
    """With a revision, a name that could be either is one on the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("data").mkdir()
    missing = f"'{name}' is not a folder here; in '.*' there is: "
    with pytest.raises(ValidationError, match=missing):
        HuggingFace(path=name)
    if name == "data/a":
        assert HuggingFace(path=name, revision="a" * 40).path == name
    else:
        with pytest.raises(ValidationError, match=missing):
            HuggingFace(path=name, revision="a" * 40)
    Path("sets").mkdir()
    Path("sets/a").mkdir()
    if name.startswith(("~", ".")):
        assert HuggingFace(path=name).path == name
