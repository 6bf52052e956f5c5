"""The time that `engine plan` says against the time that steps take."""

from __future__ import annotations

import json
import sys

import pytest

PAIRS, STEPS = 5, 2
THREADS = "2"
MODELS = {
    "2.5M": ({"hidden_size": 192, "layers": 4, "heads": 3, "context": 512}, 4096),
    "33.5M": ({"hidden_size": 512, "layers": 8, "heads": 8, "context": 512}, 16384),
}


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", MODELS)
def test_a_plan_s_time_is_a_step_s(
    size, precision, library_text, write_spec, tmp_path, engine, paused, ratio, monkeypatch
):
    """Within 1.5 times, measured anew each time, in one process whose layers are not compiled."""
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS)
    fields, vocabulary = MODELS[size]
    corpus = {
        "sources": [{"type": "files", "paths": [str(library_text)]}],
        "tokenizer": {"type": "bpe", "vocab_size": vocabulary},
        "holdout": 0,
    }
    train = {
        "data": "corpus",
        "model": {"type": "llama", **fields},
        "objective": {"type": "next-token"},
        "optimizer": {"type": "adamw"},
        "precision": precision,
        "compile": False,
        "batch": {"tokens": 8192},
        "budget": "100000 steps",
    }
    stages = {"corpus": {"prepare": corpus}, "base": {"train": train}}
    spec = write_spec({"engine": 1, "name": "planned", "seed": 3, "stages": stages})
    runs = tmp_path / "runs"
    engine("run", spec, "--runs", runs, "--stage", "corpus")
    real = paused(sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs, "--json")
    real.burst(2)
    planned, taken = [], []
    for pair in range(PAIRS):
        anew = {"XDG_CACHE_HOME": str(tmp_path / str(pair)), "OMP_NUM_THREADS": THREADS}
        (stage,) = json.loads(engine("plan", spec, "--json", env=anew).stdout)
        planned.append(stage["step"]["seconds"])
        taken.append(real.burst(STEPS))
    found = ratio(planned, taken)
    print(f"\n{size} {precision}: planned {planned[-1]:.2f} s, taken {taken[-1]:.2f} s: {found}")
    assert 1 / 1.5 <= found.mean <= 1.5
