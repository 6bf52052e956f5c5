"""All output to a terminal: escapes control characters in texts of models, files and services, adapts
to any encoding, and reports failed writes."""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import re
import sys
import threading
import traceback
import warnings
from typing import Any

_PLAIN = {"±": "+/-", "→": "->", "…": "...", "·": "*", "×": "x", "\N{EN DASH}": "-"}
_ERRORS = "engine-plain"
_OBEYED = re.compile(
    # Control characters of ASCII and Latin-1 except tab and newline; unpaired surrogates; characters
    # that change the direction of text or separate lines and paragraphs; invisible tags, annotations.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_format_warning = warnings.formatwarning
_format_record = logging.Formatter.format


def cleaned(text: str) -> str:
    """The text with every character that would control a terminal escaped, as in ``\\x1b``."""
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text.replace("\r\n", "\n"))


def write_cleaned(text: str, *, error: bool = False) -> None:
    """Writes a cleaned text without adding a newline, to stdout, or to stderr for an ``error``."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    stream.write(cleaned(text).encode(encoding, _ERRORS).decode(encoding))
    stream.flush()


def prepare() -> None:
    """Makes stdout and stderr accept any text, and cleans what Python and libraries print: warnings,
    uncaught errors and log records, which may quote untrusted files."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # tests replace the streams; a closed one is None
            stream.reconfigure(errors=_ERRORS)
    warnings.formatwarning = _warning
    sys.excepthook = _uncaught
    if sys.unraisablehook is sys.__unraisablehook__:  # a test runner has its own
        sys.unraisablehook = _uncaught_elsewhere
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_elsewhere
    logging.Formatter.format = _logged  # type: ignore[assignment, method-assign]


def finish() -> str | None:
    """Flushes both streams; returns why standard output could not be written, or None."""
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
    """Redirects a stream to /dev/null; else Python flushes it again at exit and prints an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class StandardError:
    """Stream to stderr that ignores failed writes: a run goes on when its terminal is closed, and
    events.jsonl has everything."""

    def write(self, text: str) -> None:
        """Writes a text, if possible."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flushes stderr, if possible."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    write_cleaned("".join(traceback.format_exception(kind, error, trace)), error=True)


def _uncaught_elsewhere(raised: Any) -> None:
    """Prints an error of a thread, or one after which Python goes on, as in ``__del__``."""
    if raised.exc_type is not SystemExit:
        _uncaught(raised.exc_type, raised.exc_value, raised.exc_traceback)


def _logged(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return cleaned(_format_record(formatter, record))


def _warning(*arguments: Any, **named: Any) -> str:
    return cleaned(_format_warning(*arguments, **named))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    found = error.object[error.start : error.end]
    spelled = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in found)
    return "".join(spelled), error.end


codecs.register_error(_ERRORS, _spelled)
