"""A process that is killed, stopped or cut off is noticed in time, and the job goes on or ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from support.runs import events, steps, weights

TIMEOUT = 4
STEPS = 120


@pytest.fixture
def spec(tiny_spec, write_spec):
    """The tiny spec for two processes, with many checkpoints."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"strategy": "ddp", "budget": f"{STEPS} steps", "evaluate": []}
    train["checkpoint"] = {"every": "20 steps"}
    return write_spec(tiny_spec)


@pytest.fixture
def job(spec, prepared, tmp_path):
    """Starts it with the engine's own launcher; the launcher and the run's folder."""
    run, started = prepared(tmp_path / "runs"), []

    def start(*options):
        command = [sys.executable, "-m", "engine.cli", "run", spec, "--runs", run.parent]
        command += ["--nproc", 2, "--timeout", TIMEOUT, *options]
        process = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, run

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _wait_for_step(run, step):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if (done := steps(run)) and done[-1] >= step:
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
    """The job ends, though the other rank waits in a collective for minutes."""
    launcher, run = job()
    _wait_for_step(run, 25)
    os.kill(_rank(launcher, rank), signal.SIGSTOP)
    _, told = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert f"no heartbeat of rank {rank} for {TIMEOUT} s" in told


def test_a_job_that_was_stopped_as_a_whole_goes_on(job):
    """As by Ctrl-Z, for longer than the timeout: nobody was lost."""
    launcher, run = job()
    _wait_for_step(run, 25)
    ranks = [_rank(launcher, rank) for rank in (0, 1)]
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(TIMEOUT + 2)
    for pid in ranks:
        os.kill(pid, signal.SIGCONT)
    _, told = launcher.communicate(timeout=100)
    assert launcher.returncode == 0, told
    assert steps(run)[-1] == STEPS


def _same_after(job, spec, engine_ranks, whole, signals):
    """Loses rank 1 by one signal after the other; the weights, and how often it resumed."""
    engine_ranks(2, "run", spec, "--runs", whole.parent)
    broken, torn = job("--restarts", len(signals))
    for number, sent in enumerate(signals):
        _wait_for_step(torn, 45 + 20 * number)
        os.kill(_rank(broken, 1), sent)
    _, told = broken.communicate(timeout=200)
    assert broken.returncode == 0, told
    a, b = weights(whole), weights(torn)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert len(events(torn, "resumed")) == len(signals)


def test_after_a_loss_all_start_anew_and_the_result_is_the_same(
    job, spec, prepared, engine_ranks, tmp_path
):
    """From the last checkpoint, without hand work, to bit-identical weights."""
    _same_after(job, spec, engine_ranks, prepared(tmp_path / "whole"), [signal.SIGSTOP])


@pytest.mark.soak
def test_losses_of_every_kind(job, spec, prepared, engine_ranks, tmp_path):
    """Killed, stopped, killed again."""
    signals = [signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL]
    _same_after(job, spec, engine_ranks, prepared(tmp_path / "whole"), signals)
