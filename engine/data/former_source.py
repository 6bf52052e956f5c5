"""Sources of before, with ``records(part, of)``, which work for one more version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine._deprecated import warn
from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Record


class FormerSource(DataSource):
    """A source of one part."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`."""
        found: Iterator[Record | Bad] = self._given.records(0, 1)
        return found


def as_source(built: object) -> object:
    """A former source as one of today's, with a warning for its author; anything else as it is."""
    if isinstance(built, DataSource) or not hasattr(built, "records"):
        return built
    cls = type(built)
    warn(
        f"{cls.__module__}.{cls.__qualname__} has records(part, of): subclass engine.DataSource, and "
        "take only a part, of those that `parts` names"
    )
    return FormerSource(built)
