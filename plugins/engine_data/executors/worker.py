"""A worker of the executor ``local``: calls functions until nobody asks any more.

    python -P -m engine_data.executors.worker DESCRIPTOR

It forks the process that makes the calls, so that another one is there at once when it is lost.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_PR_SET_PDEATHSIG = 1
_PATIENCE = 0.1
"""Seconds without a call after which memory is given back to the system."""


def main(descriptor: int) -> None:
    """Serves the pipe of this descriptor."""
    _end_with_parent()
    pipe = Connection(descriptor)
    sys.path[:], module = pipe.recv()
    importlib.import_module(module)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of each crash would take long
    while True:
        child = os.fork()
        if child == 0:
            _end_with_parent()
            _serve(pipe)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        pipe.send(("lost", _why(os.waitstatus_to_exitcode(status))))


def _end_with_parent() -> None:
    """Lets the system end this process when its parent ends, also amid a call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(pipe: Connection) -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)
    function: Callable[[Any], Any] | None = None
    while True:
        try:
            if not pipe.poll(_PATIENCE):
                _give_back(pa.default_memory_pool())
            what, value = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        if what == "function":
            function = pickle.loads(value)
            continue
        assert function is not None, "a function comes before its first task"
        pipe.send(_reply(function, value))


def _give_back(pool: pa.MemoryPool) -> None:
    """Returns memory that is free to the system: after a part of 16 MB, allocators keep 200 MB."""
    pool.release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


def _reply(function: Callable[[Any], Any], task: Any) -> tuple[str, Any]:
    try:
        return "done", function(task)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return "raised", RuntimeError(f"{type(error).__name__}: {error}")
        return "raised", error


def _why(status: int) -> str:
    if status == -signal.SIGALRM:
        return "it took too long"
    if status == -signal.SIGKILL:
        return "it was killed, as a system does whose memory runs out"
    return f"it ended by {signal.Signals(-status).name if status < 0 else f'status {status}'}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
