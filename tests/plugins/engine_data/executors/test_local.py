"""The worker processes of one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_data.executors.local import LocalExecutor

from engine.testing import check_component

_ENGINE = """
import sys, time
from engine_data.executors.local import LocalExecutor
from time import sleep
local = LocalExecutor(2)
calls = local.run(sleep, [0, 0, 600, 600])
print(next(calls), next(calls), flush=True)
next(calls)
"""


@pytest.mark.covers("executor/local.processes")
@pytest.mark.parametrize("processes", [0, 1, 3])
def test_it_keeps_the_contract_with_any_number_of_processes(processes):
    """Also without any."""
    check_component("executor", {"type": "local", "processes": processes})


def test_calls_share_the_processes_in_turn():
    """Each process takes the next task when it has done one."""
    local = LocalExecutor(2)
    outcomes = [pid for _, pid in local.run(_process, [0.2] * 6)]
    again = [pid for _, pid in local.run(_process, [0.2] * 6)]
    local.close()
    assert len(set(outcomes)) == 2
    assert set(again) == set(outcomes)
    assert os.getpid() not in outcomes


def _process(seconds):
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.skipif(sys.platform != "linux", reason="the system is asked to end them")
def test_processes_end_with_an_engine_that_is_killed():
    """Also amid a call that would take long."""
    with subprocess.Popen([sys.executable, "-c", _ENGINE], stdout=subprocess.PIPE) as engine:
        assert engine.stdout.readline()
        workers = _children(engine.pid)
        callers = [child for worker in workers for child in _children(worker)]
        assert (len(workers), len(callers)) == (2, 2)
        engine.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/exe").exists() for pid in [*workers, *callers]):
        assert time.monotonic() < until, "a process is left"
        time.sleep(0.05)


_LAST: list[bytes] = []


def _used(count):
    """Uses memory of which the last bit stays; the process, and what it has in MB."""
    used = [bytes(1000) for _ in range(count)]
    _LAST.append(used.pop())
    del used
    return os.getpid(), _megabytes(os.getpid())


def _megabytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc's malloc_trim")
def test_a_process_that_waits_gives_its_memory_back():
    """All but what is in use."""
    local = LocalExecutor(1)
    ((_, (pid, used)),) = local.run(_used, [200_000])
    until = time.monotonic() + 60
    while _megabytes(pid) > used - 150:
        assert time.monotonic() < until, "it keeps its memory"
        time.sleep(0.05)
    local.close()


def _children(pid):
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
