"""A program with its tests, its limits, and its outcome."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "timeout", "crashed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one program, in bytes and seconds.

    ``memory`` and ``cpu`` apply to each of at most ``processes`` processes (one under Landlock),
    without the kernel's memory for them. With a control group, :attr:`together` limits the total.
    ``folder`` limits everything written. ``wall`` is above lm-eval's 3 s, so that a busy machine does
    not fail right programs.
    """

    wall: float = 15.0
    cpu: int = 10
    memory: int = 1 << 29
    folder: int = 1 << 24
    open_files: int = 64
    processes: int = 8
    answer: int = 1 << 22
    """Longest JSON value that a call may return. Printed output is discarded."""

    @property
    def together(self) -> int:
        """Total bytes of memory, for the program, its tests and the folder."""
        return 2 * self.memory + self.folder


@dataclass(frozen=True, slots=True)
class Program:
    """Model-written ``code``, and tests which call the ``names`` that it defines.

    ``prelude`` is code of the benchmark that tests rely on; ``names`` take precedence over its
    definitions.
    """

    code: str
    tests: str
    names: tuple[str, ...]
    prelude: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed`` is an error or a wrong value; ``crashed`` a process that ended before its tests."""

    status: Status
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether all tests have run and passed."""
        return self.status == "passed"


def parsed(code: str) -> ast.Module:
    """The code's syntax tree. Raises SyntaxError or ValueError for code that is not Python.

    Warnings, e.g. of invalid escapes, are suppressed, as they only concern the author of a row.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)
