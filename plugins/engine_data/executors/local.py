"""Executor ``local``: processes of this machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from engine import Context, Executor, Lost, RunError
from engine_data.config import Local

T = TypeVar("T")
R = TypeVar("R")
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1"
)
"""Each process uses one core."""
_MEMORY = 2 * 2**30
"""Bytes that a process may need: it holds a part of the corpus, and what is made of it."""


class LocalExecutor(Executor):
    """Worker processes that start with the first calls and stay for the next ones."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._workers: list[_Worker] = []
        self.isolated = processes > 0

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R | Lost]]:
        """See :class:`engine.Executor`. Raises RunError where no worker can start."""
        if not self.isolated:
            yield from ((number, function(task)) for number, task in enumerate(tasks))
            return
        waiting = deque(enumerate(tasks))
        sent = pickle.dumps(function)
        busy: dict[_Worker, int] = {}
        try:
            while waiting or busy:
                for worker in self._idle(min(self._processes, len(tasks)), busy, function):
                    if waiting:
                        busy[worker], task = waiting.popleft()
                        worker.begin(sent, task)
                for worker in _ready(busy):
                    number = busy.pop(worker)
                    yield number, worker.result()
        finally:
            for worker in busy:  # their calls go on, but nobody asks for the results any more
                self._workers.remove(worker)
                worker.kill()

    def close(self) -> None:
        """See :class:`engine.Executor`."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _idle(self, most: int, busy: dict[_Worker, int], function: Any) -> list[_Worker]:
        self._workers = [worker for worker in self._workers if worker in busy or worker.lives()]
        while len(self._workers) < most:
            self._workers.append(_Worker(_module(function)))
        return [worker for worker in self._workers if worker not in busy]


def build(config: Local, context: Context) -> LocalExecutor:
    """Builds the executor."""
    return LocalExecutor(_usual() if config.processes is None else config.processes)


def _usual() -> int:
    """One process for each core, as far as memory allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores or 1, memory // _MEMORY))


class _Worker:
    """A process that calls functions, and the pipe to it. ``module``: what it imports at first."""

    def __init__(self, module: str) -> None:
        self._pipe, theirs = Pipe()
        self._sent = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine_data.executors.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, **_ONE_THREAD},
            process_group=0,
        )
        theirs.close()
        self._pipe.send((sys.path, module))

    @property
    def pipe(self) -> Connection:
        """What can be read from when a call has ended."""
        return self._pipe

    def lives(self) -> bool:
        """Whether it can be asked."""
        if self._process.poll() is None:
            return True
        self.kill()
        return False

    def begin(self, function: bytes, task: Any) -> None:
        """Begins a call; a process that has just died shows when its result is asked for."""
        with contextlib.suppress(BrokenPipeError):
            if function is not self._sent:
                self._pipe.send(("function", function))
                self._sent = function
            self._pipe.send(("task", task))

    def result(self) -> Any:
        """What the call gave, or how it was lost. Raises what it raised, and RunError if the process
        could not start."""
        try:
            what, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            status = self._process.wait()
            if status > 0:
                self._errors.seek(0)
                told = " ".join(self._errors.read().decode(errors="replace").split())
                raise RunError(
                    f"executor 'local': a worker process cannot start: {told[-400:]}",
                    hint="`executor: {type: local, processes: 0}` works without",
                ) from None
            return Lost("its worker process was killed")
        if what == "raised":
            raise value
        if what == "lost":
            self._sent = b""
            return Lost(value)
        return value

    def kill(self) -> None:
        """Ends the process, and the one that it has forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()
        self._errors.close()


def _module(function: Any) -> str:
    """Where a function, or an object that can be called, is defined."""
    if isinstance(function, partial):
        return _module(function.func)
    return str(getattr(function, "__module__", type(function).__module__))


def _ready(busy: dict[_Worker, int]) -> list[_Worker]:
    """Workers that have something to say, at least one."""
    by_pipe = {worker.pipe: worker for worker in busy}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe))]  # type: ignore[index]
