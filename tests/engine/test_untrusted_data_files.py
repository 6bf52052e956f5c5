"""A data file from an untrusted source gives its rows or an error that names it, and never hangs."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import hostile
from support.hostile import DONE

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]


def _rows(*lines: str, name: str = "rows.jsonl") -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        good = [json.dumps({"text": f"text {n}"}) for n in range(20)]
        (folder / name).write_text("\n".join([*good[:10], *lines, *good[10:]]))
        return name

    return attack


def _raw(name: str, content: bytes) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return attack


def _table(**columns: list[Any]) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        pq.write_table(pa.table(columns), folder / "rows.parquet")
        return "rows.parquet"

    return attack


def _link(target: str) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / "rows.jsonl").symlink_to(target)
        return "rows.jsonl"

    return attack


def _saved(files: Any) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / "state.json").write_text(json.dumps({"_data_files": files}))
        os.mkfifo(folder / "pipe")
        return "."

    return attack


def _made_pipe(folder: Path) -> str:
    os.mkfifo(folder / "rows.jsonl")
    return "rows.jsonl"


_TEXT = b'{"text": "one"}\n'

DATA: dict[str, tuple[Callable[[Path], str], str]] = {
    "a row of 100,000 levels": (_rows('{"text": ' + "[" * 100_000), DONE),
    "a number of 5,000 digits": (_rows('{"text": "a", "n": ' + "9" * 5000 + "}"), DONE),
    "a key twice": (_rows('{"text": "a", "text": "b"}'), DONE),
    "no number for a text": (_rows('{"text": NaN}'), DONE),
    "a list for a row": (_rows("[1, 2]", '"text"', "null"), DONE),
    "a lone surrogate": (_rows('{"text": "\\ud800"}'), DONE),
    "eleven broken rows": (_rows(*["{"] * 11), "11 of 31 rows are bad"),
    "an empty file": (_raw("rows.jsonl", b""), DONE),
    "another encoding": (_raw("rows.jsonl", _TEXT.decode().encode("utf-16")), "rows.jsonl"),
    "a pipe": (_made_pipe, "rows.jsonl"),
    "an endless device": (_link("/dev/zero"), "rows.jsonl"),
    "a link to itself": (_link("rows.jsonl"), "rows.jsonl"),
    "a link to nothing": (_link("no such"), "rows.jsonl"),
    "gzip that is cut off": (
        _raw("rows.jsonl.gz", gzip.compress(_TEXT * 99)[:-20]),
        "rows.jsonl.gz",
    ),
    "gzip that is none": (_raw("rows.jsonl.gz", _TEXT), "rows.jsonl.gz"),
    "zstd that is none": (_raw("rows.jsonl.zst", _TEXT), "rows.jsonl.zst"),
    "a table without rows": (_table(text=[]), ""),
    "a table of numbers": (_table(text=[1, 2]), "rows.parquet"),
    "a table of lists": (_table(text=[["a"], ["b"]]), "rows.parquet"),
    "a table that is text": (_raw("rows.parquet", _TEXT), "rows.parquet"),
    "a quote that does not end": (_raw("rows.csv", b'text\n"one\ntwo'), ""),
    "a field of a million letters": (_raw("rows.csv", b"text\n" + b"x" * 1_000_000 + b"\n"), ""),
    "100,000 columns": (
        _raw("rows.csv", (",".join(f"c{n}" for n in range(100_000)) + "\n").encode()),
        DONE,
    ),
    "a day that Python has not": (
        _table(text=["a"], x=pa.array([1 << 30], pa.date32())),
        "damaged",
    ),
    "a zone that nobody knows": (
        _table(text=["a"], x=pa.array([0], pa.timestamp("us", tz="No/Where"))),
        "damaged",
    ),
    "a saved set that is a word": (_saved("abc"), "is no file of this folder"),
    "a saved set without names": (_saved([{}]), "is no file of this folder"),
    "a saved set of a pipe": (_saved([{"filename": "pipe"}]), "is no file of this folder"),
    "a NUL in a table of text": (_raw("rows.csv", b"text\na\0b\n"), ""),
}
"""An empty outcome: done, or a line; only its form was sure beforehand."""


@pytest.mark.parametrize("attack", DATA)
def test_a_data_file(attack, tmp_path):
    """Each row is given or told as bad; a file that holds no rows is named, and none is waited for."""
    harm, expected = DATA[attack]
    name = harm(tmp_path)
    hostile.check(hostile.read_file(tmp_path / name), expected)
