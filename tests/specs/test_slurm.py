"""A spec as a job of a real SLURM: a controller and two nodes on loopback addresses."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from support.runs import events, weights

ROOT = Path(__file__).parents[2]
NODES = ("127.0.0.2", "127.0.0.3")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
NodeName={nodes[0]} NodeAddr={nodes[0]} NodeHostname={host} Port={ports[1]} CPUs=1
NodeName={nodes[1]} NodeAddr={nodes[1]} NodeHostname={host} Port={ports[2]} CPUs=1
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _until(true, seconds, told):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, told()
        time.sleep(0.2)


@pytest.fixture
def slurm():
    """Runs a command of SLURM's, such as ``sbatch``, and gives what it printed."""
    if os.geteuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))):
        pytest.skip("a SLURM of one's own needs root, slurmctld, slurmd and slurm-client")
    # Its nodes' sockets lie in it, whose paths have at most 107 bytes: too few for pytest's folder.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    config, log = folder / "slurm.conf", folder / "log"
    fields = {"host": socket.gethostname(), "ports": _free_ports(3), "nodes": NODES}
    config.write_text(CONFIG.format(folder=folder, **fields), encoding="utf-8")
    env = {
        **os.environ,
        "SLURM_CONF": str(config),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def ask(*command):
        done = subprocess.run(
            list(map(str, command)), env=env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    with log.open("w") as told:
        commands = [["slurmctld", "-D"], *(["slurmd", "-D", "-N", node] for node in NODES)]
        daemons = [subprocess.Popen(c, env=env, stdout=told, stderr=told) for c in commands]
        try:
            idle = ("sinfo", "--noheader", "--states=idle", "--format=%D")
            _until(lambda: ask(*idle).strip() == "2", 30, log.read_text)
            yield ask
        finally:
            ask("scancel", "--user", "root")
            for daemon in daemons:
                daemon.terminate()
            for daemon in daemons:
                try:
                    daemon.wait(60)  # with a job that has not ended they wait for it
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(1200)
def test_a_job_over_two_nodes_saves_in_time_and_the_next_goes_on(
    slurm, tiny_spec, write_spec, prepared, engine_ranks, tmp_path
):
    """Told that its time is up, the first saves; the second ends at an undisturbed run's weights."""
    train = tiny_spec["stages"]["base"]["train"]
    train["strategy"] = {"type": "mesh", "shard": 2}
    train |= {"budget": "200 steps", "checkpoint": {"every": "1000 steps"}}
    spec = write_spec(tiny_spec)

    def submit(runs):
        out = tmp_path / "out"
        options = ("--parsable", "--nodes", 2, "--output", out)
        job = slurm("sbatch", *options, "specs/slurm.sh", spec, "--runs", runs).strip()
        return job, out

    def ended(job, out):
        _until(lambda: not slurm("squeue", "--noheader", "--jobs", job).strip(), 300, out.read_text)

    run, whole = prepared(tmp_path / "parted"), prepared(tmp_path / "whole")
    job, out = submit(run.parent)
    _until(lambda: len(events(run, "step")) > 20, 300, out.read_text)
    slurm("scancel", "--signal", "TERM", "--batch", job)
    ended(job, out)
    done = len(events(run, "step"))
    assert done < 200
    assert json.loads((run / "manifest.json").read_text())["world_size"] == 2
    ended(*submit(run.parent))
    engine_ranks(2, "run", spec, "--runs", whole.parent)
    assert [e["step"] for e in events(run, "resumed")] == [done]
    assert len(events(run, "step")) == 200
    ours, theirs = weights(run), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
