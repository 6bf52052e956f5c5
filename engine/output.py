"""Standard output and standard error of a command: any terminal can show it, and a failure is told."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from typing import Any

_PLAIN = {"±": "+/-", "→": "->", "…": "...", "·": "*", "×": "x", "\N{EN DASH}": "-"}
_ERRORS = "engine-plain"


def prepare() -> None:
    """What a stream's encoding lacks is spelled out, so that a command does not end at a ``±``."""
    codecs.register_error(_ERRORS, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test may put another object there; None where closed
            stream.reconfigure(errors=_ERRORS)


def finish() -> str | None:
    """Writes what still waits; says why it cannot be written to standard output."""
    wrong = None
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            discard(stream)
            wrong = str(error.strerror) if stream is sys.stdout else wrong
    return wrong


def discard(stream: Any) -> None:
    """Gives up on a stream: else Python tries it once more at its end, and says so in its own words."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class StandardError:
    """Where progress is shown. What it cannot take is in events.jsonl: a run does not end with the
    terminal that shows it."""

    def write(self, text: str) -> None:
        """The text, if it can be written."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """What waits, if it can be written."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(spelled), error.end
