"""A process that is killed, stopped or cut off is noticed in time, and the job goes on or ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

TIMEOUT = 4


@pytest.fixture
def job(tiny_spec, write_spec, tmp_path):
    """Starts the tiny spec on two processes; its folder and the launcher."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"strategy": "ddp", "budget": "400 steps", "evaluate": []}
    train["checkpoint"] = {"every": "20 steps"}
    spec = write_spec(tiny_spec)
    started = []

    def start(runs, *options):
        command = [sys.executable, "-m", "engine.cli", "run", spec, "--runs", tmp_path / runs]
        command += ["--nproc", 2, "--timeout", TIMEOUT, *options]
        process = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, tmp_path / runs / "tiny"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _steps(run):
    file = run / "events.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [e["step"] for line in lines if (e := json.loads(line))["event"] == "step"]


def _wait_for_step(run, step):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (steps := _steps(run)) and steps[-1] >= step:
            return
        time.sleep(0.05)
    raise AssertionError("training did not begin")


def _rank(launcher, rank):
    """The process id of a rank."""
    children = subprocess.run(
        ["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    for pid in children:
        with open(f"/proc/{pid}/environ", encoding="utf-8") as file:
            if f"RANK={rank}" in file.read().split("\0"):
                return int(pid)
    raise AssertionError(f"no rank {rank} among {children}")


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.soak), 1])
def test_a_stopped_rank_is_noticed_and_named(job, rank):
    """Within the timeout and 5 s, though the other waits in a collective; the job ends."""
    launcher, run = job("runs")
    _wait_for_step(run, 25)
    os.kill(_rank(launcher, rank), signal.SIGSTOP)
    stopped = time.monotonic()
    _, told = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert time.monotonic() - stopped < TIMEOUT + 5
    assert f"rank {rank} has not been heard of for {TIMEOUT} s" in told


def test_a_job_that_was_stopped_as_a_whole_goes_on(job):
    """As by Ctrl-Z, for longer than the timeout: nobody was lost."""
    launcher, run = job("runs")
    _wait_for_step(run, 25)
    ranks = [_rank(launcher, rank) for rank in (0, 1)]
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(TIMEOUT + 2)
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
    _, told = launcher.communicate(timeout=100)
    assert launcher.returncode == 0, told
    assert _steps(run)[-1] == 400


def _same_after(job, signals):
    """Loses rank 1 by one signal after the other; the weights, and how often it resumed."""
    launcher, run = job("whole")
    _, told = launcher.communicate(timeout=200)
    assert launcher.returncode == 0, told
    broken, torn = job("broken", "--restarts", len(signals))
    for number, sent in enumerate(signals):
        _wait_for_step(torn, 45 + 80 * number)
        os.kill(_rank(broken, 1), sent)
    _, told = broken.communicate(timeout=200)
    assert broken.returncode == 0, told
    a, b = (load_file(r / "base" / "final" / "model.safetensors") for r in (run, torn))
    assert all(torch.equal(a[name], b[name]) for name in a)
    events = (torn / "events.jsonl").read_text(encoding="utf-8")
    assert events.count('"event": "resumed"') == len(signals)


def test_after_a_loss_all_start_anew_and_the_result_is_the_same(job):
    """From the last checkpoint, without hand work, to bit-identical weights."""
    _same_after(job, [signal.SIGSTOP])


@pytest.mark.soak
def test_losses_of_every_kind(job):
    """Killed, stopped, killed again."""
    _same_after(job, [signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL])
