"""Our strategies against the bare libraries beneath them: time, and bytes sent."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import steps

PAIRS, STEPS = 12, 4


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["ddp", "shard", "zero"])
def test_no_slower_than_the_library_beneath(kind, ratio):
    """Two processes, one thread each, float32; the same model, batch, loss and optimizer."""
    script = Path(__file__).with_name("strategies_peer.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script), kind, str(PAIRS), str(STEPS)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    seconds, sent, losses = told["seconds"], told["sent"], told["losses"]
    slowdown = ratio(seconds["ours"], seconds["theirs"])
    # Ring algorithms: each of N ranks sends (N − 1)/N of the bytes in one pass. An all-reduce is two
    # passes; shards take an all-gather forward and backward (not for the root) and a reduce-scatter.
    passes = {name: count / (4 * told["parameters"]) for name, count in sent.items()}
    print(f"\n{kind}: time {slowdown}; {1e3 * statistics.median(seconds['ours']):.0f} ms a step")
    print(f"bytes sent by both, in units of the model's: {passes}; losses {losses}")
    assert losses["ours"] == pytest.approx(losses["theirs"], rel=1e-3)
    assert slowdown.low <= 1.0, "slower than the bare library, beyond the interval"
    assert passes["ours"] <= 1.05 * passes["theirs"]
    if kind == "ddp":
        assert passes["ours"] == pytest.approx(2.0, rel=0.05)


GRIDS = [
    (1, "single"),
    (2, "ddp"),
    (2, "{type: mesh, shard: 2}"),
    (2, "{type: mesh, tensor: 2}"),
    (2, "{type: mesh, pipeline: 2}"),
    (2, "{type: mesh, context: 2}"),
    (2, "{type: zero, stage: 1}"),
    (2, "{type: zero, stage: 3}"),
    (4, "{type: mesh, data: 2, shard: 2}"),
    (4, "{type: mesh, tensor: 2, pipeline: 2}"),
]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_a_table_of_strategies(engine, write_spec, library_text, tmp_path):
    """Tokens a second, measured, and memory of a rank, as `engine plan` has it: to be read."""
    spec = _table_spec(library_text)
    file, runs = write_spec(spec), tmp_path / "runs"
    one_thread = {"OMP_NUM_THREADS": "1"}
    engine("run", file, "--runs", runs, "--stage", "corpus", env=one_thread)
    print("\n| strategy | processes | tokens a second | memory of a rank |\n|---|---|---|---|")
    for number, (processes, strategy) in enumerate(GRIDS):
        own = tmp_path / str(number)
        shutil.copytree(runs, own)
        chosen = ("--nproc", processes, "--set", f"stages.base.train.strategy={strategy}")
        engine("run", file, "--runs", own, *chosen, env=one_thread, timeout=600)
        speeds = steps(own / "table", "tokens_per_second")
        speed = statistics.median(speeds[3:])
        plan = json.loads(engine("plan", file, *chosen, "--json").stdout)
        memory = plan[0]["memory"]["total"]
        print(f"| `{strategy}` | {processes} | {speed:,.0f} | {memory / 1e6:.0f} MB |")
        assert len(speeds) == 10


def _table_spec(text):
    return {
        "engine": 1,
        "name": "table",
        "seed": 3,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "files", "paths": [str(text)]}],
                    "tokenizer": {"type": "bpe", "vocab_size": 4096},
                    "holdout": 0,
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {"type": "llama", "layers": 6, "context": 512},
                    "objective": {"type": "next-token"},
                    "optimizer": {"type": "adamw"},
                    "batch": {"tokens": 4096, "micro_tokens": 1024},
                    "budget": "10 steps",
                    "compile": False,
                }
            },
        },
    }
