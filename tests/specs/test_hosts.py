"""One spec on two hosts: network namespaces with addresses of their own, a torchrun on each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.runs import steps

LAUNCHER = Path(__file__).parents[2] / "specs" / "torchrun.sh"
TIMEOUT = 5
HOSTS = {"10.77.0.1": "engine-a", "10.77.0.2": "engine-b"}


def _ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Two namespaces with a cable between them."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    try:
        for name in HOSTS.values():
            _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    first, second = HOSTS.values()
    try:
        _ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", second)
        for address, name in HOSTS.items():
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "cable", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in HOSTS.values():
            _ip("netns", "delete", name)


@pytest.fixture
def on_both(hosts, tiny_spec, write_spec, tmp_path, prepared):
    """Starts the tiny spec on both hosts, in one folder."""
    train = tiny_spec["stages"]["base"]["train"]
    train["strategy"] = {"type": "mesh", "shard": 2}
    run, started = prepared(tmp_path / "runs"), []

    def start(budget):
        train["budget"] = budget
        spec = write_spec(tiny_spec)
        for address, name in HOSTS.items():
            env = {
                **os.environ,
                "HEAD": "10.77.0.1",
                "NODES": "2",
                "LOCAL": address,
                "RESTARTS": "0",
                "GLOO_SOCKET_IFNAME": "cable",
                "OMP_NUM_THREADS": "1",
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            }
            command = ["ip", "netns", "exec", name, LAUNCHER, spec]
            command += ["--runs", run.parent, "--timeout", TIMEOUT]
            told = (tmp_path / f"{name}.log").open("w+")
            started.append(
                (subprocess.Popen(list(map(str, command)), env=env, stderr=told, stdout=told), told)
            )
        return [process for process, _ in started]

    def told(number):
        return Path(started[number][1].name).read_text(encoding="utf-8")

    yield start, told, run
    for process, log in started:
        process.kill()
        process.wait()
        log.close()


def test_two_hosts_train_as_one(on_both):
    """Weights in halves on both, met through torchrun's rendezvous."""
    start, told, run = on_both
    processes = start("6 steps")
    assert [p.wait(120) for p in processes] == [0, 0], told(0) + told(1)
    assert steps(run) == [1, 2, 3, 4, 5, 6]
    assert json.loads((run / "manifest.json").read_text())["world_size"] == 2


def test_a_host_that_is_cut_off_is_noticed_on_both(on_both):
    """By name, long before the run would end."""
    start, told, run = on_both
    start("100000 steps")
    until = time.monotonic() + 120
    while time.monotonic() < until and len(steps(run)) < 10:
        time.sleep(0.1)
    _ip("-n", "engine-b", "link", "set", "cable", "down")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told_by_each = [
            "ends: no heartbeat of rank 1" in told(0),
            "ends: the store that connects the processes no longer answers" in told(1),
        ]
        if all(told_by_each):
            return
        time.sleep(0.1)
    raise AssertionError(told(0) + told(1))
