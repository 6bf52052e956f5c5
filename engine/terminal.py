"""The one way to a terminal: what a model, a file or a service wrote is shown there, never obeyed."""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from typing import Any

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
    stream.write(cleaned(text))
    stream.flush()


def guard() -> None:
    """Cleans what Python itself prints: warnings, errors that nobody expected, and what is logged where
    nobody asked for a log."""
    import logging

    class Cleaning(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return cleaned(super().format(record))

    warnings.formatwarning = _warning
    sys.excepthook = _uncaught
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Cleaning())


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    write("".join(traceback.format_exception(kind, error, trace)), error=True)


def _warning(*told: Any, **more: Any) -> str:
    return cleaned(_python_s(*told, **more))
