"""Our strategies against the bare libraries beneath them: time, and bytes sent."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

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
