"""Files of examples: texts, JSON lines and Parquet."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_corpus.judge.scores.examples import Examples, fault_of

from engine import RunError


def test_texts_and_rows_are_read_each_once(tmp_path, monkeypatch):
    """Sorted by the files' names, although two patterns lead to one of them; `~` is the home folder."""
    (tmp_path / "b.txt").write_text("\ufeffGrüße\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "x": 1}\n')
    pq.write_table(pa.table({"text": ["three", None], "n": [1, 2]}), tmp_path / "c.parquet")
    (tmp_path / "sub").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    found = Examples([f"{tmp_path}/*", "~/b.txt"])
    assert list(found.texts()) == ["one", "two", "Grüße\n", "three"]


def test_a_digest_tells_contents_and_not_places(tmp_path):
    """Nor times: copies elsewhere have the same one."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.txt").write_text("one")
        (tmp_path / folder / "2.txt").write_text("two")
    first, second = (Examples([f"{tmp_path}/{folder}/*"]).digest() for folder in "xy")
    assert first == second
    os.utime(tmp_path / "y" / "2.txt", (0, 0))
    assert Examples([f"{tmp_path}/y/*"]).digest() == first
    (tmp_path / "y" / "2.txt").write_text("too")
    assert Examples([f"{tmp_path}/y/*"]).digest() != first


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"caf\xe9", r"a\.txt: byte 3 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: is not JSON"),
        ("a.jsonl", b'{"text": 1}', r"a\.jsonl:1: has no text in 'text'"),
        ("a.jsonl", b"[1]", r"a\.jsonl:1: has no text in 'text'"),
        ("a.parquet", b"PAR1", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, content, message):
    """Instead of a traceback."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=message):
        list(Examples([f"{tmp_path}/*"]).texts())


def test_parquet_without_texts_is_told(tmp_path):
    """It names the column that is missing."""
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(RunError, match="column 'text'"):
        list(Examples([f"{tmp_path}/*"]).texts())


def test_patterns_that_match_nothing_are_told(tmp_path):
    """With what stands beside; a folder is no file."""
    (tmp_path / "notes.txt").write_text("x")
    assert fault_of([f"{tmp_path}/notes.txt"]) == ""
    assert "notes.txt" in fault_of([f"{tmp_path}/note.txt"])
    assert fault_of([str(tmp_path)]).startswith(f"no file matches '{tmp_path}'")
    with pytest.raises(RunError, match="no file matches"):
        Examples([f"{tmp_path}/*.md"])
