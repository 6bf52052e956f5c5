"""Joining as one rank, as the environment of any launcher says."""

from __future__ import annotations

import json
import socket

import pytest


@pytest.fixture
def rank(warm, tiny_spec, write_spec, tmp_path):
    """Starts a rank of the tiny spec."""
    tiny_spec["stages"]["base"]["train"]["strategy"] = "ddp"
    command = (
        "-m",
        "engine.cli",
        "run",
        write_spec(tiny_spec),
        "--runs",
        tmp_path / "runs",
    )
    started = []

    def start(**told):
        started.append(warm.start(command, env=told))
        return started[-1]

    yield start
    for program in started:
        program.kill()


def test_two_ranks_by_the_environment_alone(rank, tmp_path):
    """RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as a scheduler sets them."""
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    ranks = [rank(RANK=number, **told) for number in "01"]
    errors = [one.communicate(timeout=120)[1] for one in ranks]
    assert [one.returncode for one in ranks] == [0, 0], errors
    assert json.loads((tmp_path / "runs" / "tiny" / "manifest.json").read_text())["world_size"] == 2


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"RANK": "x"}, "RANK, WORLD_SIZE and LOCAL_RANK must be numbers"),
        ({"RANK": "2"}, "RANK=2 is out of range for WORLD_SIZE=2"),
        ({"MASTER_ADDR": "localhost"}, "WORLD_SIZE=2 but MASTER_PORT is not set"),
        ({"MASTER_ADDR": "localhost", "MASTER_PORT": "http"}, "MASTER_PORT=http is not a port"),
    ],
)
def test_an_environment_that_cannot_be_joined(rank, told, problem):
    """Says which variable, without a traceback."""
    one = rank(WORLD_SIZE="2", **told)
    _, error = one.communicate(timeout=60)
    assert one.returncode != 0
    assert problem in error
    assert "Traceback" not in error
