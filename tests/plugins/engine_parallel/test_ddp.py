"""Strategy `ddp` on two real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def two_ranks(warm):
    """Runs two_ranks.py with a bucket size; what it printed."""

    def run(processes: int, bucket_mb: float) -> list[dict]:
        script = Path(__file__).with_name("two_ranks.py")
        (told, _), *_ = warm.ranks(processes, [script, bucket_mb])
        found: list[dict] = json.loads(told.splitlines()[-1])
        return found

    return run


@pytest.mark.covers("strategy/ddp.bucket_mb")
def test_ranks_agree_with_one_process_whatever_the_buckets(two_ranks):
    """Gradient norms and weights as on one process; smaller buckets are sent one by one."""
    (alone,) = two_ranks(1, 25)
    many, few = two_ranks(2, 0.001), two_ranks(2, 25)
    assert many[0]["reductions"] > few[0]["reductions"] > 0
    for rank in (*many, *few):
        assert rank["norms"] == pytest.approx(alone["norms"], rel=1e-5)
        assert rank["checksum"] == pytest.approx(alone["checksum"], rel=1e-5)
    assert many[0]["checksum"] == many[1]["checksum"]


def _losses(run: Path) -> list[float]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    return [e["loss"] for e in events if e["event"] == "step"]


@pytest.mark.covers("Train.strategy")
def test_two_processes_train_as_one(tiny_spec, write_spec, engine, finished_run, tmp_path):
    """The same sample order: losses to 1e-4 in float32, final weights to 1e-3, other ranks' log too."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"precision": "fp32", "strategy": "single"}
    spec = write_spec(tiny_spec)
    engine("run", spec, "--runs", tmp_path / "one")
    ddp = ["--set", "stages.base.train.strategy=ddp"]
    engine("run", spec, *ddp, "--nproc", 2, "--runs", tmp_path / "two")
    one, two = tmp_path / "one" / "tiny", tmp_path / "two" / "tiny"
    assert _losses(two) == pytest.approx(_losses(one), rel=1e-4)
    a, b = (load_file(r / "base" / "final" / "model.safetensors") for r in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
    manifest = json.loads((two / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["world_size"] == 2
    # More budget on another number of ranks: the order goes on where it was.
    more = ["--set", "stages.base.train.budget=9 steps"]
    engine("run", spec, *more, "--runs", tmp_path / "one")
    engine("run", spec, *more, "--runs", tmp_path / "two")
    assert _losses(two)[6:] == pytest.approx(_losses(one)[6:], rel=1e-3)


def test_single_refuses_two_processes(tiny_spec, write_spec, engine):
    """Before anything starts, with the strategy that would work."""
    done = engine("run", write_spec(tiny_spec), "--nproc", 2, status=2)
    assert "strategy" in done.stderr
    assert "ddp" in done.stderr


def test_a_signal_to_the_launcher_saves_on_all_ranks(tiny_spec, write_spec, engine, tmp_path):
    """SIGTERM: one checkpoint of both, status 1; the same command then finishes."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"strategy": "ddp", "budget": "100000 steps", "evaluate": []}
    spec = write_spec(tiny_spec)
    command = [sys.executable, "-m", "engine.cli", "run", str(spec), "--nproc", "2"]
    command += ["--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    run = tmp_path / "runs" / "tiny"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (run / "events.jsonl").exists() and len(_losses(run)) > 5:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    steps = len(_losses(run))
    latest = sorted((run / "base" / "checkpoints").glob("step-*"))[-1]
    manifest = json.loads((latest / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["step"], manifest["world_size"]) == (steps, 2)
    more = ["--set", f"stages.base.train.budget={steps + 2} steps", "--nproc", "2"]
    engine("run", spec, *more, "--runs", tmp_path / "runs")
    assert len(_losses(run)) == steps + 2
