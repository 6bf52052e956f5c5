"""Joining as one rank, as the environment of any launcher says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest


def _rank(spec, runs, **told):
    command = [sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **told}
    return subprocess.Popen(
        list(map(str, command)), env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_ranks_by_the_environment_alone(tiny_spec, write_spec, tmp_path):
    """RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as a scheduler sets them."""
    tiny_spec["stages"]["base"]["train"]["strategy"] = "ddp"
    spec, runs = write_spec(tiny_spec), tmp_path / "runs"
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    ranks = [_rank(spec, runs, RANK=rank, **told) for rank in "01"]
    errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    assert json.loads((runs / "tiny" / "manifest.json").read_text())["world_size"] == 2


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"RANK": "x"}, "RANK, WORLD_SIZE and LOCAL_RANK must be numbers"),
        ({"RANK": "2"}, "RANK=2 does not fit WORLD_SIZE=2"),
        ({"MASTER_ADDR": "localhost"}, "WORLD_SIZE=2 but MASTER_PORT is not set"),
        ({"MASTER_ADDR": "localhost", "MASTER_PORT": "http"}, "MASTER_PORT=http is no port"),
    ],
)
def test_an_environment_that_cannot_be_joined(tiny_spec, write_spec, tmp_path, told, problem):
    """Says which variable, without a traceback."""
    tiny_spec["stages"]["base"]["train"]["strategy"] = "ddp"
    rank = _rank(write_spec(tiny_spec), tmp_path / "runs", WORLD_SIZE="2", **told)
    _, error = rank.communicate(timeout=60)
    assert rank.returncode != 0
    assert problem in error
    assert "Traceback" not in error
