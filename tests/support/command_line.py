"""Starts the command line, in this process or in one of its own; a plugin of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.warm import READ_AT_IMPORT, Warm

Engine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts programs in processes that have imported torch and transformers already."""
    with Warm() as started:
        yield started


@pytest.fixture(scope="session")
def engine(warm: Warm) -> Engine:
    """Runs ``engine ARGUMENTS`` in a process of its own; ``status=None`` accepts any.

    No command ever ends in a traceback, so all calls check that.
    """

    def run(*arguments: object, env: dict[str, str] | None = None, **options: Any) -> Any:
        command = ("-m", "engine.cli", *arguments)
        if (env or {}).keys() & READ_AT_IMPORT or "input" in options:
            return run_program(sys.executable, *command, env=env, **options)
        status = options.pop("status", 0)
        return _checked(warm.run(command, env=env, **options), status)

    return run


@pytest.fixture(scope="session")
def engine_ranks(warm: Warm) -> Callable[..., None]:
    """Runs ``engine ARGUMENTS`` as ranks of one job, as a launcher that is not ours starts them.

    Takes seconds less than ``--nproc``, whose launcher and ranks each import torch.
    """

    def run(count: int, *arguments: object) -> None:
        warm.ranks(count, ("-m", "engine.cli", *arguments))

    return run


@pytest.fixture
def command(capsys, monkeypatch) -> Callable[..., tuple[str, str]]:
    """Runs a command in this process: what it printed to stdout and to stderr."""
    from engine.cli import main

    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.out, told.err

    return run


def run_program(
    *command: object, status: int | None = 0, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        check=False,
        **{"timeout": 240, **options},
    )
    return _checked(done, status)


def _checked(
    done: subprocess.CompletedProcess[str], status: int | None
) -> subprocess.CompletedProcess[str]:
    told = f"{done.stdout}\n{done.stderr}"
    assert status is None or done.returncode == status, told
    assert "Traceback" not in told, told
    return done
