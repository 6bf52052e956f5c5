"""Tokens per second against transformers.Trainer, and against the processor's own limit."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import pytest
import torch

from engine.hardware.measurements import processor
from engine.hardware.precision import best
from engine.modeling.weight_types import TYPES

BATCH, LENGTH, PAIRS, STEPS = 8, 512, 12, 4
MODELS = {
    "5.7M": ({"hidden_size": 256, "layers": 6, "heads": 4, "intermediate_size": 672}, 4096),
    "33.5M": ({"hidden_size": 512, "layers": 8, "heads": 8, "intermediate_size": 1376}, 16384),
}

LEAST = {"bf16": {"5.7M": 1.3, "33.5M": 1.5}, "fp32": {"5.7M": 1.3, "33.5M": 1.15}}
LEAST_SHARE = {"bf16": 1, "fp32": 0.75}
"""Of the peak, or in its place: where a step is all products, nobody is much faster."""


def _spec(text: Path, fields: dict, vocabulary: int) -> dict:
    return {
        "engine": 1,
        "name": "speed",
        "seed": 3,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "files", "paths": [str(text)]}],
                    "tokenizer": {"type": "bpe", "vocab_size": vocabulary},
                    "holdout": 0,
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {"type": "llama", "context": LENGTH, **fields},
                    "objective": {"type": "next-token"},
                    "optimizer": {
                        "type": "adamw",
                        "lr": 3e-4,
                        "schedule": {"type": "constant", "warmup": "0 steps"},
                    },
                    "batch": {"tokens": BATCH * LENGTH},
                    "budget": "100000 steps",
                }
            },
        },
    }


def _flops_per_token(fields: dict, vocabulary: int) -> float:
    """6 per weight that multiplies, and causal attention, half of PaLM's (appendix B)."""
    width, layers = fields["hidden_size"], fields["layers"]
    weights = layers * width * (4 * width + 3 * fields["intermediate_size"]) + vocabulary * width
    return 6 * weights + 6 * layers * LENGTH * width


def _peak(precision: str) -> float:
    """FLOPs per second of a large matrix product, the best of several."""
    a, b = (torch.randn(2048, 2048).to(TYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", MODELS)
def test_faster_than_trainer(size, library_text, write_spec, tmp_path, engine, paused, ratio):
    """In the machine's own precision with everything at its default; the losses agree."""
    fields, vocabulary = MODELS[size]
    precision = best("cpu")
    spec = write_spec(_spec(library_text, fields, vocabulary))
    runs = tmp_path / "runs"
    engine("run", spec, "--runs", runs, "--stage", "corpus", env={"OMP_NUM_THREADS": "2"})
    ours = paused(sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs, "--json")
    ours.burst(5)
    peer = Path(__file__).with_name("trainer_peer.py")
    theirs = paused(sys.executable, peer, spec, runs)
    theirs.burst(5)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    peaks = []
    for pair in range(PAIRS):
        both = [("ours", ours), ("theirs", theirs)]
        for name, process in both if pair % 2 else reversed(both):
            seconds[name].append(process.burst(STEPS))
        peaks.append(_peak(precision))
    speedup = ratio(seconds["theirs"], seconds["ours"])
    tokens = BATCH * LENGTH / statistics.median(seconds["ours"])
    share = tokens * _flops_per_token(fields, vocabulary) / statistics.median(peaks)
    print(f"\n{size}: {speedup}; {tokens:,.0f} tokens/s, {share:.2f} of the {precision} peak")
    print(f"{processor()}: peak {statistics.median(peaks) / 1e12:.2f} TFLOP/s")
    n = min(len(ours.losses), len(theirs.losses))
    print(f"losses after {n} steps: {ours.losses[n - 1]:.4f} and {theirs.losses[n - 1]:.4f}")
    late = slice(n - 20, n)
    assert statistics.fmean(ours.losses[late]) == pytest.approx(
        statistics.fmean(theirs.losses[late]), rel=0.01
    )
    assert speedup.mean >= LEAST[precision][size] or share >= LEAST_SHARE[precision]
