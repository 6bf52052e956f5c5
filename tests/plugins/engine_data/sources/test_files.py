"""Local files of every kind give the records that stand in them."""

from __future__ import annotations

import gzip
import hashlib
import os
import tracemalloc
from functools import partial
from unittest.mock import patch

import pytest
from engine_data.config import Files
from engine_data.rows import formats
from engine_data.sources import local_files
from engine_data.sources.files import build
from hypothesis import HealthCheck, given, settings, strategies as st
from support.local_files import (
    lines as _lines,
    parquet as _parquet,
    read as _read,
    texts as _texts,
    zstd as _zstd,
)

from engine import Preference, RunError
from engine.testing import StandAloneContext


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"x", "x"),
        (b"a\r\nb\rc\n", "a\nb\rc\n"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("naïve 東京 🙂\u2028\x85 e\u0301".encode(), "naïve 東京 🙂\u2028\x85 e\u0301"),
    ],
)
def test_a_text_file_is_one_document(notes, content, text):
    """Character by character, without a byte order mark; its lines end as they do on every system."""
    (notes / "a.md").write_bytes(content)
    (record,) = _read("a.md")
    assert (record.text, record.id, record.source, record.license) == (text, "a.md", "a.md", None)


@given(st.text(st.sampled_from("a\r\né東🙂"), max_size=30), st.integers(1, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_text_file_is_the_same_in_blocks_of_any_size(notes, text, block):
    """Also where a character or a line's end is divided."""
    with patch.object(formats, "_BLOCK", block):
        for mark in (b"", b"\xef\xbb\xbf"):
            (notes / "a.txt").write_bytes(mark + text.encode())
            assert _texts("a.txt") == [text.replace("\r\n", "\n")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, _zstd])
def test_a_long_text_file_is_never_in_memory_as_a_whole(notes, pack):
    """It is read in linked pieces."""
    text = "".join(f"line {number} of a long file\n" for number in range(800_000))
    name = {bytes: "a.txt", gzip.compress: "a.txt.gz"}.get(pack, "a.txt.zst")
    (notes / name).write_bytes(pack(text.encode()))
    source = build(Files(paths=("a.*",)), StandAloneContext())
    joined = hashlib.sha256()
    tracemalloc.start()
    count = 0
    for piece in source.records(name):
        count += 1
        joined.update(piece.text.encode())
        assert (piece.id, piece.meta["piece_of"]) == (f"{name}#{count}", name)
    assert piece.meta["pieces"] == count > 20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert joined.digest() == hashlib.sha256(text.encode()).digest()
    assert peak < len(text) / 2


def test_every_kind_of_file_gives_the_same_records(notes):
    """By its name's ending, in capitals too; blank lines are none, and a mark is no part of it."""
    rows = [{"text": text, "stars": i} for i, text in enumerate(["", "ü\r\n", "x" * 70_000])]
    marked = b"\xef\xbb\xbf" + _lines(*rows).replace(b"\n", b"\r\n\r\n")
    contents = {"a.JSONL": marked, "b.ndjson": _lines(*rows), "c.jsonl.zst": _zstd(_lines(*rows))}
    for name, content in contents.items():
        (notes / name).write_bytes(content)
    _parquet(notes / "d.parquet", text=[r["text"] for r in rows], stars=[0, 1, 2])
    for name in (*contents, "d.parquet"):
        records = _read(name)
        assert [record.text for record in records] == [row["text"] for row in rows]
        assert [record.meta for record in records] == [{"stars": i} for i in range(3)]
        lines = (1, 3, 5) if name == "a.JSONL" else (1, 2, 3)
        assert [record.id for record in records] == [f"{name}:{line}" for line in lines]


def test_zstd_frames_may_follow_each_other(notes):
    """As parallel compressors and `cat` make them."""
    (notes / "a.jsonl.zst").write_bytes(_zstd(_lines({"text": "a"})) + _zstd(_lines({"text": "b"})))
    assert _texts("a.jsonl.zst") == ["a", "b"]


def test_parts_are_the_whole_between_them(notes, monkeypatch):
    """Each has some files, and is read alone as among the others: its schema is the first file's."""
    monkeypatch.setattr(local_files, "_PART", 100)
    for name in "abcde":
        rows = ({"text": f"{name}{i}", "label": True} for i in range(5))
        (notes / f"{name}.jsonl").write_bytes(_lines(*rows))
    (notes / "f.txt").write_text("f")
    new = partial(build, Files(paths=("*",)), StandAloneContext())
    source = new()
    assert source.parts() == ["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl", "e.jsonl", "f.txt"]
    whole = [list(source.records(part)) for part in source.parts()]
    assert [len(records) for records in whole] == [5, 5, 5, 5, 5, 1]
    assert [list(new().records(part)) for part in reversed(source.parts())] == whole[::-1]
    monkeypatch.setattr(local_files, "_PART", 400)
    assert new().parts() == ["a.jsonl", "d.jsonl"]
    with pytest.raises(RunError, match=r"no part begins with 'b\.jsonl'; the files have changed"):
        next(new().records("b.jsonl"))


def test_a_part_has_another_version_when_one_of_its_files_has_changed(notes):
    """By size or time, or as it is gone."""
    file = notes / "a.txt"
    (notes / "b.txt").write_text("b")

    def version():
        source = build(Files(paths=("*",)), StandAloneContext())
        return [source.version(part) for part in source.parts()]

    file.write_text("a")
    first = version()
    assert version() == first
    file.write_text("longer")
    longer = version()
    os.utime(file, ns=(0, 0))
    earlier = version()
    file.unlink()
    assert len({*first, *longer, *earlier, *version()}) == 4


@pytest.mark.covers("data-source/files.license")
def test_a_licence_stands_where_a_record_says_none(notes):
    """A record's own comes first."""
    (notes / "a.txt").write_text("a")
    (notes / "b.jsonl").write_bytes(_lines({"text": "b"}, {"text": "c", "license": "MIT"}))
    records = _read("*", license="CC0-1.0")
    assert [record.license for record in records] == ["CC0-1.0", "CC0-1.0", "MIT"]


@pytest.mark.covers("data-source/files.columns")
def test_the_text_may_be_in_another_column(notes):
    """Which then is none of the record's other columns."""
    (notes / "a.jsonl").write_bytes(_lines({"body": "a", "text": "title", "n": 1}))
    (record,) = _read("a.jsonl", columns={"text": "body"})
    assert (record.text, dict(record.meta)) == ("a", {"n": 1})
    told = r"a\.jsonl:1: no column 'bdy', which `columns` names for 'text'; it has body, text, n"
    with pytest.raises(RunError, match=told):
        _read("a.jsonl", columns={"text": "bdy"})


@pytest.mark.covers("data-source/files.records")
def test_records_may_be_of_any_schema(notes):
    """Which the specification checks against what the objective takes."""
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    (notes / "a.jsonl").write_bytes(_lines(row))
    assert Files(paths=("a",), records="preference").gives() == "preference"
    (record,) = _read("a.jsonl", records="preference")
    assert record == Preference(id="a.jsonl:1", source="a.jsonl", **row)
    (notes / "a.txt").write_text("a")
    with pytest.raises(RunError, match=r"a\.txt: a text file cannot hold chat records"):
        _read("a.txt", records="chat")


def test_the_schema_is_known_before_the_data_is_read(notes):
    """By the first rows of the first file; of files that are not there yet, nothing is known."""
    (notes / "b.jsonl").write_bytes(_lines({"prompt": "a", "completion": "b"}))
    assert Files(paths=("b.jsonl",)).gives() == "completion"
    assert Files(paths=("none.jsonl",)).gives() is None
    (notes / "a.md").write_text("a")
    assert Files(paths=("*",)).gives() == "text"
    with pytest.raises(
        RunError, match="its rows have no text records: they have prompt, completion"
    ):
        _read("*")
