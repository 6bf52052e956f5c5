"""What can go wrong, told so that a person can mend it."""

from __future__ import annotations


class EngineError(Exception):
    """An error that is the user's to mend: printed in a line or two, never as a traceback.

    ``what`` says what is wrong and where (file, field, value); ``mend`` how to set it right.
    """

    exit_status = 1

    def __init__(self, what: str, *, mend: str | None = None) -> None:
        self.what = what
        self.mend = mend
        super().__init__(f"{what}; {mend}" if mend else what)


class SpecError(EngineError):
    """The spec or the command line is wrong: nothing was run. Carries every problem at once."""

    exit_status = 2

    def __init__(self, *problems: str, mend: str | None = None) -> None:
        self.problems = tuple(map(_line, problems))
        super().__init__("\n".join(self.problems), mend=mend)


class FieldError(SpecError):
    """A field of a component's configuration is wrong, as only building the component shows.

    ``field`` may be dotted. A run says where in the spec it stands.
    """

    def __init__(self, field: str, what: str, *, mend: str | None = None) -> None:
        self.field = field
        super().__init__(f"{field}: {what}", mend=mend)


class PluginError(EngineError):
    """A plugin is missing, broken, or in conflict with another; names plugin and distribution."""

    exit_status = 2


class RunError(EngineError):
    """The run cannot go on; what was saved stays whole."""


def _line(text: str) -> str:
    """The text in one line that a terminal shows as it is, whatever a spec's words have in them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
