"""Compares answers by mathematical value, with math-verify in a separate process.

math-verify interrupts itself by SIGALRM, which needs a main thread, and sympy may run for ever or take
all memory without handling the signal. So it runs in a process that can be killed.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import IO

from engine import RunError

_STARTED = 120.0
"""Seconds within which the process must start, including the import of sympy."""
_MEMORY = 4 << 30
"""Memory limit of the process, in bytes."""
_CPU = 120.0
"""CPU seconds after which the process ends by itself, in case its parent is gone."""
_WORKER = ("-P", "-m", __name__)
"""Leaves out the working directory, whose files would be imported first."""
_READY = "ready"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two answers have the same value, and how the second one was read.

    ``undecided`` if the comparison took too long; it then counts as wrong.
    """

    same: bool
    found: str
    undecided: bool = False


class Judge:
    """Compares answers, one after another, each within ``seconds``.

    math-verify allows itself 5 seconds for reading each answer and for comparing them, so anything that
    takes longer than ``seconds`` ignores its alarm.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def compare(self, gold: str, answer: str) -> Verdict:
        """Compares an answer's whole text. Raises RunError if math-verify is not installed."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        try:
            _write(process.stdin, [gold, answer])
            line = _line(process.stdout, self._seconds)
        except BrokenPipeError:
            line = b""
        if not line:  # too long, or it died, of memory for instance
            _stop(process)
            self._process = None
            return Verdict(False, "", undecided=True)
        same, found = json.loads(line)
        return Verdict(same, found)

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, *_WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # math-verify logs every answer that it cannot read
        )
        weakref.finalize(self, _stop, process)
        told = json.loads(_line(process.stdout, _STARTED) or b'"its process ended"')
        if told != _READY:
            _stop(process)
            raise RunError(
                f"answers cannot be compared: {told}", hint="pip install 'training-engine[evals]'"
            )
        return process


def _write(pipe: IO[bytes] | None, message: object) -> None:
    assert pipe is not None
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def _line(pipe: IO[bytes] | None, seconds: float) -> bytes:
    """The next line, or empty bytes if none comes in time. Lines arrive whole, one at a time."""
    assert pipe is not None
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return pipe.readline() if selector.select(seconds) else b""


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _serve() -> None:
    """Answers each line ``[gold, answer]`` with ``[same, found]``, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it ends
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps libraries' output off the pipe for answers
    try:
        from math_verify import parse, verify
    except ImportError as error:
        _write(answers, str(error))
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    memory = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, most))
    _write(answers, _READY)
    for line in sys.stdin.buffer:
        gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, _CPU)
        try:
            found = parse(answer)
            _write(answers, [bool(verify(parse(gold), found)), str(found[-1]) if found else ""])
        except MemoryError:
            _write(answers, [False, ""])


if __name__ == "__main__":
    _serve()
