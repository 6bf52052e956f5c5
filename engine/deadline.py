"""Time limits for code that could run forever on untrusted texts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engine.errors import RunError

SECONDS = 20.0
"""Limit for one record or answer: a thousand times what a normal template or pattern takes."""


@contextmanager
def time_limit(what: str, hint: str) -> Iterator[None]:
    """Raises RunError, on ``what`` and with ``hint``, if the block takes longer than :data:`SECONDS`.

    Uses a signal, which interrupts Python code and its regular expressions, and works only in the main
    thread; the engine runs untrusted templates in no other. The signal repeats every second, since a
    bare ``except`` or a ``__del__`` may swallow one. An outer limit keeps running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _LateError

    handler, began = signal.signal(signal.SIGALRM, late), time.monotonic()
    outer, every = signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
    try:
        yield
    except _LateError:
        raise RunError(f"{what} takes more than {SECONDS:g} s", hint=hint) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        left = outer - (time.monotonic() - began)
        signal.setitimer(signal.ITIMER_REAL, outer and max(left, 1e-6), every)


@contextmanager
def last_resort(seconds: float | None) -> Iterator[None]:
    """Ends this process if the block takes longer, also where it runs code that no exception can
    interrupt. Without ``seconds`` there is no limit. Only in the main thread."""
    if seconds is None:
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _LateError(BaseException):
    """Not an Exception, so that ``except Exception`` in the limited block does not catch it."""
