"""Fine-tuning with packing against TRL's SFTTrainer, on the same records, by alternating runs."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest
from support.runs import events

ROWS, LENGTH, PAIRS, STEPS = 8, 512, 12, 4
MODEL = {
    "type": "llama",
    "context": LENGTH,
    "hidden_size": 256,
    "layers": 6,
    "heads": 4,
    "intermediate_size": 672,
}


def _spec() -> dict:
    constant = {"type": "constant", "warmup": "0 steps"}
    data = {"type": "python-questions", "questions": ["purpose", "body"], "answers": "whole"}
    return {
        "engine": 1,
        "name": "speed",
        "seed": 3,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "python-library", "parts": ["docstrings"]}],
                    "tokenizer": {"type": "bpe", "vocab_size": 4096},
                    "holdout": 0,
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": MODEL,
                    "objective": {"type": "next-token"},
                    "batch": {"tokens": ROWS * LENGTH},
                    "budget": "1 steps",
                }
            },
            "tuned": {
                "train": {
                    "data": {**data, "max_characters": 1000},
                    "model": "base",
                    "objective": {"type": "sft"},
                    "optimizer": {"type": "adamw", "lr": 3e-4, "schedule": constant},
                    "batch": {"tokens": ROWS * LENGTH, "sequence": LENGTH},
                    "budget": "100000 steps",
                }
            },
        },
    }


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_faster_than_sft_trainer(layout, write_spec, tmp_path, engine, paused, ratio):
    """In bf16 with everything at its default, as many tokens a step; the losses agree."""
    spec = write_spec(_spec())
    runs = tmp_path / "runs"
    engine("run", spec, "--runs", runs, "--stage", "corpus", env={"OMP_NUM_THREADS": "2"})
    engine("run", spec, "--runs", runs, "--stage", "base", env={"OMP_NUM_THREADS": "2"})
    ours = paused(sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs, "--json")
    ours.burst(5)
    told = events(runs / "speed", "examples")[0]
    alike = round(ROWS * told["records"] / told["rows"])  # as many examples as our rows hold
    peer = Path(__file__).with_name("sft_peer.py")
    theirs = paused(sys.executable, peer, spec, runs, layout, alike)
    theirs.burst(5)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(PAIRS):
        both = [("ours", ours), ("theirs", theirs)]
        for name, process in both if pair % 2 else reversed(both):
            seconds[name].append(process.burst(STEPS))
    speedup = ratio(seconds["theirs"], seconds["ours"])
    step = statistics.median(seconds["ours"])
    print(f"\n{layout}: {speedup}; {step:.2f} s a step of {alike} examples")
    n = min(len(ours.losses), len(theirs.losses))
    late = slice(n - 20, n)
    means = [statistics.fmean(one.losses[late]) for one in (ours, theirs)]
    print(f"losses after {n} steps: {means[0]:.3f} and {means[1]:.3f}")
    assert means[0] == pytest.approx(means[1], rel=0.03)
    assert speedup.mean >= 1.3
