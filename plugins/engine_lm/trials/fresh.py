"""Fresh processes for runs that are killed or are one of several ranks.

A server that has imported torch, but computed nothing, forks them: each starts at once, without the
threads of this process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from engine import EngineError, RunError

_IMPORTED = ("engine.testing", "engine_lm.opening", "transformers.modeling_utils")


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


class Fresh:
    """``act(*given)`` in a process of its own, with these variables in its environment; what it prints
    goes to ``log``. ``act`` must be importable."""

    def __init__(
        self, act: Callable[..., Any], *given: Any, log: Path, environment: Mapping[str, str]
    ) -> None:
        self._channel, theirs = _server().Pipe(duplex=False)
        self._process: BaseProcess = _server().Process(
            target=_carry_out, args=(theirs, act, given, log, dict(environment)), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """SIGKILL, if it still runs, and waits for its end."""
        self._process.kill()
        self._process.join()

    def result(self, patience: float) -> Any:
        """What ``act`` returned. Raises RunError where the engine refused, AssertionError for any other
        end, or where there is none after ``patience`` seconds."""
        if not self._channel.poll(patience):
            raise AssertionError(f"no end after {patience:.0f} s")
        try:
            kind, value = self._channel.recv()
        except EOFError:
            self._process.join()
            raise AssertionError(f"ended with status {self._process.exitcode}") from None
        if kind == "refused":
            raise RunError(value)
        assert kind == "done", value
        return value


def _carry_out(
    channel: Connection,
    act: Callable[..., Any],
    given: tuple[Any, ...],
    log: Path,
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        channel.send(("done", act(*given)))
    except EngineError as error:
        channel.send(("refused", str(error)))
    except Exception as error:  # whatever a model's code raises
        channel.send(("failed", f"{type(error).__name__}: {error}"))
