"""The command itself, killed in the middle of a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from support.runs import steps


@pytest.mark.soak
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_ends_as_one_that_was_not(ladder_spec, climbed, tmp_path, kill):
    """Its runs are processes of their own; one that outlives the sweep is waited for."""
    made, data = climbed
    folder = tmp_path / "sweep"
    options = ["--flops", "3e8", "--budgets", "2", "--sizes", "3", "--min-steps", "4"]
    command = [sys.executable, "-m", "engine.cli", "scaling", "sweep", str(ladder_spec)]
    command += ["--to", str(folder), "--held-out", "4", "--budget", "60s", "--json", *options]
    middle = folder / "runs" / made.ran[6]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sweep:
        while not (middle / "events.jsonl").exists() or not steps(middle):
            assert sweep.poll() is None
            time.sleep(0.05)
        sweep.send_signal(kill)
        assert sweep.wait(60) != 0
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert [p["loss"] for p in again["points"]] == [p["loss"] for p in data["points"]]
    assert len(again["attempts"]) == 1
