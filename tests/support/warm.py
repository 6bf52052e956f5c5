"""A Python that has imported what is slow to import, and forks for each program that a test starts.

``python -m support.warm SOCKET`` serves until its input ends. A program gets its own process,
environment, folder and output; of this process it only inherits what is imported: other packages'
modules, never the engine's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

IMPORTED = (
    "annotated_types",
    "click",
    "numpy",
    "pluggy",
    "pyarrow.parquet",
    "pydantic.json_schema",
    "rich.progress",
    "safetensors.torch",
    "structlog",
    "tokenizers",
    "torch",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.launcher.api",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
    "torch.nn.attention.varlen",
    "transformers",
    "transformers.convert_slow_tokenizer",
    "transformers.models.llama.modeling_llama",
    "yaml",
)
READ_AT_IMPORT = {"ATEN_CPU_CAPABILITY", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PYTHONPATH"}
"""Variables that Python or the imported packages read once: a program cannot have others."""
_PATH = tuple(sys.path)
"""That of pytest at its start; a test may add plugins that others must not see."""


class Program:
    """A running program, as ``subprocess.Popen`` has it; its output is kept in files."""

    def __init__(self, connection: socket.socket, output: IO[str], error: IO[str]) -> None:
        self._connection, self._told = connection, connection.makefile("r", encoding="utf-8")
        self._output, self._error = output, error
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The status that it ends with; raises TimeoutExpired."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._told.readline())
            except TimeoutError:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            self._told.close()
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """Ends it with SIGKILL, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it wrote, once it has ended."""
        self.wait(timeout)
        with self._output as output, self._error as error:
            output.seek(0)
            error.seek(0)
            return output.read(), error.read()


class Warm:
    """The server's other end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = f"{self._folder.name}/socket"
        self._lock = threading.Lock()
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> Warm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
        self._folder.cleanup()

    def start(
        self,
        arguments: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> Program:
        """Runs ``python ARGUMENTS``, which begin with ``-m MODULE`` or a file."""
        output, error = (
            tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (the program's)
            for _ in range(2)
        )
        asked = {
            "arguments": list(map(str, arguments)),
            "env": {**os.environ, **(env or {})},
            "cwd": str(cwd or Path.cwd()),
        }
        connection = self._connected()
        body = json.dumps(asked).encode()
        connection.sendall(len(body).to_bytes(4, "big"))
        socket.send_fds(connection, [body[:1]], [output.fileno(), error.fileno()])
        connection.sendall(body[1:])
        return Program(connection, output, error)

    def run(
        self, arguments: Sequence[object], *, timeout: float = 240.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end, or kills it after ``timeout`` seconds."""
        program = self.start(arguments, **options)
        try:
            output, error = program.communicate(timeout)
        finally:
            program.kill()
        return subprocess.CompletedProcess(arguments, program.wait(), output, error)

    def ranks(
        self, count: int, arguments: Sequence[object], *, timeout: float = 240.0
    ) -> list[tuple[str, str]]:
        """Runs it as ``count`` ranks of one job: what each wrote. Fails where one of them does."""
        from torch.distributed import TCPStore

        # Its port is taken before the ranks know of it, so that jobs beside each other cannot clash.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        meeting = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        programs = [
            self.start(arguments, env={**meeting, **size, "RANK": str(n), "LOCAL_RANK": str(n)})
            for n in range(count)
        ]
        try:
            written = [program.communicate(timeout) for program in programs]
        finally:
            for program in programs:
                program.kill()
        ends = [program.wait() for program in programs]
        told = [
            f"rank {rank} ended with {end}:\n{error[-3000:]}"
            for rank, (end, (_, error)) in enumerate(zip(ends, written, strict=True))
        ]
        assert not any(ends), "\n".join(told)
        return written

    def _connected(self) -> socket.socket:
        with self._lock:
            if self._server is None:
                command = [sys.executable, "-m", "support.warm", self._address]
                path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), *_PATH]))
                self._server = subprocess.Popen(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
                    stdin=subprocess.PIPE,  # whose end tells the server that this process is gone
                    stdout=subprocess.PIPE,
                    text=True,
                )
                assert self._server.stdout is not None
                assert self._server.stdout.readline() == "ready\n"
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        return connection


def _asked(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size = int.from_bytes(_exactly(connection, 4), "big")
    first, handles, *_ = socket.recv_fds(connection, 1, 2)
    return json.loads(first + _exactly(connection, size - 1)), list(handles)


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError("what asks is gone")
        parts += part
    return parts


def _serve(address: str) -> list[str]:
    """Forks for each request; returns in the new processes only, with the arguments of each."""
    for name in IMPORTED:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                sys.exit()
            if key.fileobj is not listener:
                connection, pid = key.data
                _, status = os.waitpid(pid, 0)
                waiting.unregister(key.fileobj)
                os.close(key.fd)
                with connection, contextlib.suppress(BrokenPipeError):
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                continue
            connection, _ = listener.accept()
            asked, handles = _asked(connection)
            pid = os.fork()
            if pid == 0:
                nothing = os.open(os.devnull, os.O_RDONLY)
                for other in list(waiting.get_map().values()):
                    os.close(other.fd)
                waiting.close()
                connection.close()
                for number, handle in enumerate([nothing, *handles]):
                    os.dup2(handle, number)
                    os.close(handle)
                os.environ.clear()
                os.environ.update(asked["env"])
                os.chdir(asked["cwd"])
                return list(asked["arguments"])
            for handle in handles:
                os.close(handle)
            connection.sendall(f"{pid}\n".encode())
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (connection, pid))


def _main(arguments: list[str]) -> None:
    """What ``python ARGUMENTS`` does."""
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], ""
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    _main(_serve(sys.argv[1]))
