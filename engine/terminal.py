"""The one way to a terminal: what a model, a file or a service wrote is shown there, never obeyed; any
encoding takes it; and what cannot be written is told."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import traceback
import warnings
from typing import Any

_PLAIN = {"±": "+/-", "→": "->", "…": "...", "·": "*", "×": "x", "\N{EN DASH}": "-"}
_ERRORS = "engine-plain"
_OBEYED = re.compile(
    # ASCII's and Latin-1's control characters but tab and newline; half of a surrogate pair; what
    # turns the direction of text, or parts lines and paragraphs; invisible tags and annotations.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_python_s = warnings.formatwarning


def cleaned(text: str) -> str:
    """The text with every character that a terminal would obey written out, as ``\\x1b``."""
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text.replace("\r\n", "\n"))


def write(text: str, *, error: bool = False) -> None:
    """Writes a text as it comes, without an end of the line; to stderr if it tells of an ``error``."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(cleaned(text).encode(encoding, _ERRORS).decode(encoding))
    stream.flush()


def prepare() -> None:
    """Any stream takes any text, and what Python itself prints is clean: warnings, errors that nobody
    expected, and what is logged where nobody asked for a log."""
    import logging

    class Cleaning(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return cleaned(super().format(record))

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test may put another object there; None where closed
            stream.reconfigure(errors=_ERRORS)
    warnings.formatwarning = _warning
    sys.excepthook = _uncaught
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Cleaning())


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


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    write("".join(traceback.format_exception(kind, error, trace)), error=True)


def _warning(*told: Any, **more: Any) -> str:
    return cleaned(_python_s(*told, **more))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(spelled), error.end


codecs.register_error(_ERRORS, _spelled)
