"""Rows are read from files of every kind, or the error says how to get them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from engine_evals.benchmarks.row_files import default_folder, read_rows

from engine import RunError

ROWS = [
    {"country": "Peru", "cities": ["Lima", "Cusco"], "gold": 0},
    {"country": "Chad", "cities": ["Abéché", "N'Djamena"], "gold": 1},
    {"country": "Laos", "cities": ["Vientiane", "Pakse"], "gold": 0},
]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "arrow"])
def test_rows_are_read_from_every_kind_of_file(kind, tmp_path, write):
    """With the same result."""
    file = tmp_path / "capitals" / f"test.{kind}"
    write(file, ROWS)
    table = pa.Table.from_pylist(ROWS)
    if kind == "json":
        file.write_text(json.dumps(ROWS), encoding="utf-8")
    elif kind == "parquet":
        pyarrow.parquet.write_table(table, file)
    elif kind == "arrow":
        with pa.ipc.new_stream(str(file), table.schema) as out:
            out.write_table(table)
    assert read_rows("capitals", "test", str(tmp_path)) == ROWS
    assert read_rows("capitals", "test", str(tmp_path / "capitals")) == ROWS
    assert read_rows("capitals", "test", str(file)) == ROWS
    file.write_bytes(b"\x00\xff")
    with pytest.raises(RunError, match=f"capitals: no row of 'test' can be read: .*test.{kind}"):
        read_rows("capitals", "test", str(file))


def test_missing_rows_say_how_to_get_them(tmp_path, monkeypatch):
    """From the folder that ENGINE_EVALS names, or the cache."""
    monkeypatch.setenv("ENGINE_EVALS", str(tmp_path))
    with pytest.raises(RunError, match=r"mmlu/astronomy/test.jsonl; .*'engine evals fetch mmlu'"):
        read_rows("mmlu/astronomy", "test", None)
    monkeypatch.delenv("ENGINE_EVALS")
    assert default_folder().parts[-3:] == (".cache", "engine", "evals")
