"""A spec on a real Ray cluster of this machine alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.runs import events, weights

LAUNCHER = Path(__file__).parents[2] / "specs" / "ray_train.py"


def _rank_one(run):
    """Its process, which the launcher's worker has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / n for n in ("cmdline", "environ"))
            runs = str(run.parent).encode() in command.read_bytes()
            if runs and b"\0RANK=1\0" in b"\0" + environment.read_bytes():
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("rank 1 does not run")


@pytest.mark.timeout(1200)
def test_a_rank_is_lost_and_ray_starts_all_anew(
    tiny_spec, write_spec, prepared, engine_ranks, tmp_path
):
    """To the weights, bit for bit, of two processes that ran through."""
    pytest.importorskip("ray")
    train = tiny_spec["stages"]["base"]["train"]
    train["strategy"] = {"type": "mesh", "shard": 2}
    train |= {"budget": "100 steps", "checkpoint": {"every": "10 steps"}}
    spec = write_spec(tiny_spec)
    run, whole = prepared(tmp_path / "parted"), prepared(tmp_path / "whole")
    env = {**os.environ, "WORKERS": "2", "RESTARTS": "1", "HOME": str(tmp_path)}
    command = [sys.executable, LAUNCHER, spec, "--runs", run.parent, "--timeout", "10"]
    with (tmp_path / "log").open("w+") as log:
        launcher = subprocess.Popen(list(map(str, command)), env=env, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 300
            while len(events(run, "step")) < 25:
                assert time.monotonic() < until, _text(log)
                assert launcher.poll() is None, _text(log)
                time.sleep(0.1)
            os.kill(_rank_one(run), signal.SIGKILL)
            assert launcher.wait(300) == 0, _text(log)
        finally:
            launcher.terminate()
            launcher.wait(30)
    assert len(events(run, "resumed")) == 1
    engine_ranks(2, "run", spec, "--runs", whole.parent)
    ours, theirs = weights(run), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def _text(log):
    log.seek(0)
    return log.read()[-3000:]
