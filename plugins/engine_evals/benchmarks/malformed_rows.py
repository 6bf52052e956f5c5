"""Skips, names and counts rows of the wrong shape; an error only where no row is usable."""

from __future__ import annotations

import logging

from engine import RunError, Score

_log = logging.getLogger(__name__)


class MalformedRows:
    """The rows of a benchmark that cannot be used."""

    def __init__(self, benchmark: str) -> None:
        self._benchmark = benchmark
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def first(self) -> str:
        """What is wrong with the first row. Raises IndexError where there is none."""
        return self._found[0]

    def clear(self) -> None:
        """Forgets all rows, before they are read again."""
        self._found.clear()

    def add(self, where: str, wrong: object) -> str:
        """Notes a row; returns what an error would say of it."""
        self._found.append(f"row {where}: {wrong}")
        return self._found[-1]

    def summarise(self, used: int) -> list[Score]:
        """Returns their number as a score and logs a warning; empty where there are none."""
        if not self._found:
            return []
        _log.warning(
            "%s: %d rows cannot be used and are left out; the first is %s",
            self._benchmark, len(self), self.first,
        )  # fmt: skip
        return [Score("malformed", float(len(self)), None, used, higher_is_better=False)]


def no_usable_row(benchmark: str, first: str) -> RunError:
    """The error for rows of which none can be used; ``first`` says what is wrong with the first."""
    return RunError(
        f"{benchmark}: no row can be used; {first}",
        hint="rows must have the shape that they have on the hub",
    )
