"""Rows of a wrong shape: left out, named, counted; an error only where no row is right."""

from __future__ import annotations

import logging

from engine import RunError, Score

_log = logging.getLogger(__name__)


class Malformed:
    """A benchmark's rows that cannot be used."""

    def __init__(self, benchmark: str) -> None:
        self._benchmark = benchmark
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def first(self) -> str:
        """What is wrong with the first of them. Raises IndexError where there is none."""
        return self._found[0]

    def clear(self) -> None:
        """Forgets them, before the rows are read once more."""
        self._found.clear()

    def add(self, where: str, wrong: object) -> str:
        """One more row; what an error would say of it."""
        self._found.append(f"row {where}: {wrong}")
        return self._found[-1]

    def counted(self, used: int) -> list[Score]:
        """How many there are beside the rows that are ``used``, if any: with one warning."""
        if not self._found:
            return []
        _log.warning(
            "%s: %d rows cannot be used and are left out; the first is %s",
            self._benchmark, len(self), self.first,
        )  # fmt: skip
        count = float(len(self))
        return [Score("malformed", count, None, used, higher_is_better=False)]


def none_right(benchmark: str, first: str) -> RunError:
    """The error for rows of which none can be used."""
    return RunError(
        f"{benchmark}: no row can be used; {first}",
        mend="rows must have the shape that they have on the hub",
    )
