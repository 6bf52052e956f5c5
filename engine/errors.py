"""Errors that a user can fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

Location = tuple[str | int, ...]
"""Path to a value in a spec: keys and indices from its top."""


class EngineError(Exception):
    """An error for the user to fix, printed in a line or two, never as a traceback.

    ``what``: what is wrong and where (file, field, value); ``hint``: how to fix it. ``exit_status`` is
    that of the command.
    """

    exit_status = 1

    def __init__(self, what: str, *, hint: str | None = None, mend: str | None = None) -> None:
        if mend is not None:
            from engine._deprecated import warn

            warn("the keyword `mend` of errors is now `hint`")
            hint = hint or mend
        self.what = what
        self.hint = hint
        super().__init__(f"{what}; {hint}" if hint else what)

    def __reduce__(self) -> Any:
        return _restored, (type(self), self.args, self.__dict__)


class SpecError(EngineError):
    """The spec or the command line is wrong; nothing was run. ``problems`` has all of them at once."""

    exit_status = 2

    def __init__(self, *problems: str, hint: str | None = None, mend: str | None = None) -> None:
        self.problems = tuple(map(_line, problems))
        super().__init__("\n".join(self.problems), hint=hint, mend=mend)


class FieldError(SpecError):
    """A field of a component's configuration is wrong, which only building the component reveals.

    ``field`` may be a dotted path. The run adds its location in the spec.
    """

    def __init__(
        self, field: str, what: str, *, hint: str | None = None, mend: str | None = None
    ) -> None:
        self.field = field
        super().__init__(f"{field}: {what}", hint=hint, mend=mend)


class PluginError(EngineError):
    """A plugin is missing, broken, or in conflict with another; the message names the distribution."""

    exit_status = 2


class RunError(EngineError):
    """The run cannot continue; everything saved before is intact."""


def nearest(name: str, names: Iterable[str]) -> str:
    """``; did you mean 'this'?`` if one of the names is similar, else empty."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _restored(cls: type[EngineError], args: tuple[Any, ...], state: dict[str, Any]) -> EngineError:
    """An error from another process."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


def _line(text: str) -> str:
    """The text as one printable line, with other characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
