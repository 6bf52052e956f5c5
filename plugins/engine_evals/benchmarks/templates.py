"""Jinja2 in benchmark records: templates give text, expressions give values.

Both run in a sandbox that can neither change its input nor reach anything else. A name that a row lacks
is an error. ``int`` is Python's own (Jinja2's turns an empty label into 0); ``sub``, ``ones`` and
``boxed`` are additional filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine import time_limit

WRONG_ROW = (
    TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError,
    re.error,
)  # fmt: skip
"""Errors of templates and expressions for a row without the expected shape."""


def substituted(text: str, pattern: str, by: str = "") -> str:
    """``text`` with all that matches the regular expression replaced."""
    return re.sub(pattern, by, text)


def ones(labels: Sequence[int]) -> list[int]:
    """Positions of the 1s in a list of labels 0 and 1."""
    return [i for i, label in enumerate(labels) if label == 1]


def boxed(solution: str) -> str:
    r"""The last ``\boxed{…}`` of a solution in LaTeX. Raises ValueError where there is none."""
    start = max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox"))
    bare = re.match(r"\\boxed ([^$]*)", solution[max(start, 0) :])
    if bare:  # `$\boxed 9$` extends to the formula's end
        return rf"\boxed{{{bare[1].strip()}}}"
    depth = 0
    for end in range(max(start, 0), len(solution) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if solution[end] == "}" and depth == 0:
            return solution[start : end + 1]
    raise ValueError(r"the solution has no \boxed{…}")


_environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_environment.filters |= {"int": int, "sub": substituted, "ones": ones, "boxed": boxed}


@cache
def template(source: str) -> Callable[..., str]:
    """The text as a function of a row's fields. Raises jinja2.TemplateError for wrong syntax."""
    with _limit():
        return _limited(_environment.from_string(source).render)


@cache
def expression(source: str) -> Callable[..., Any]:
    """The value as a function of a row's fields. Raises jinja2.TemplateError for wrong syntax."""
    with _limit():
        return _limited(_environment.compile_expression(source, undefined_to_none=False))


def _limited(render: Callable[..., Any]) -> Callable[..., Any]:
    def limited(*row: Any, **fields: Any) -> Any:
        with _limit():
            return render(*row, **fields)

    return limited


def _limit() -> AbstractContextManager[None]:
    """The time limit for rendering, and for compiling, which evaluates constants."""
    return time_limit("a template of a benchmark's record", "look at its loops and powers")
