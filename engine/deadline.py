"""A limit on the time of what strangers wrote: templates and patterns can be made to run for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engine.errors import RunError

SECONDS = 20.0
"""For one record or answer: a thousand times what any honest template or pattern takes."""


@contextmanager
def time_limit(what: str, mend: str) -> Iterator[None]:
    """Raises RunError where the block takes longer than :data:`SECONDS`.

    By a signal, which reaches Python's code and its regular expressions; only in a main thread, as
    nothing of the engine runs such things in another.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _LateError

    handler = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    except _LateError:
        raise RunError(f"{what} takes more than {SECONDS:g} s", mend=mend) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


class _LateError(BaseException):
    """No ``except Exception`` of what is limited takes it."""
