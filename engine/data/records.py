"""Iterates over a source's records, and counts its bad rows."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Record
from engine.errors import EngineError, RunError

LIMIT = 0.01
"""Default share of a source's rows that may be bad."""
_TOLERATED = 9
"""Number of bad rows that is always accepted, however few rows the source has."""
_NAMED = 10
"""Number of bad rows that an error lists."""
_DEEPEST = 100
"""Levels of nesting allowed in a record; a conversation with tools has ten."""
_NOT_LEARNT = frozenset({"id", "source", "license", "meta"})


_OWN = ("engine", "contextlib")
"""Packages whose lines do not help the author of a component."""


Say = Callable[..., None]
"""Says something to the user: see :meth:`engine.Context.say`."""


def silent(event: str, message: str, **fields: Any) -> None:
    """Says nothing."""


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source and its name in the data card and in records; ``bad``: share of bad rows allowed;
    ``key``: names what it is, its type, settings and version; ``priority``: see
    :class:`engine.DataSourceConfig`; ``make``: makes it in another process, which says things by
    ``say``; without it, it is read in this one."""

    name: str
    source: DataSource
    bad: float = LIMIT
    key: str = ""
    priority: int = 1
    make: Callable[[Say], DataSource] | None = None
    say: Say = silent


class Rows:
    """Iterates over a source's records, or those of one part; counts the rows ``read`` and, by reason,
    the ``bad`` ones and, by rule, good ones that are ``dropped`` all the same.

    Raises RunError at the end of the source if too many rows are bad.
    """

    def __init__(self, named: NamedSource, part: str | None = None) -> None:
        self._named = named
        self._part = part
        self.read = 0
        self.bad: Counter[str] = Counter()
        self.first: list[Bad] = []
        self.dropped: Counter[str] = Counter()
        self.first_dropped: dict[str, str] = {}
        """By rule the id of the first record that it drops."""
        self.summaries: Sequence[Mapping[str, Any]] = ()
        """What the steps that drop records say of all of them, with their names."""

    def __iter__(self) -> Iterator[Record]:
        source = self._named.source
        with blaming(f"source '{self._named.name}'"):
            parts = source.parts() if self._part is None else (self._part,)
            for row in chain.from_iterable(map(source.records, parts)):
                if not isinstance(row, Record | Bad):
                    raise TypeError(f"it yielded {row!r}, which is not a record")
                self.read += 1
                bad = row if isinstance(row, Bad) else unreadable(row)
                if bad is None:
                    assert isinstance(row, Record)
                    yield row
                    continue
                self.bad[bad.reason] += 1
                if len(self.first) < _NAMED:
                    self.first.append(bad)
        if self._part is None:
            self.check()

    def parts(self) -> Sequence[str]:
        """The names of the source's parts. Raises RunError."""
        with blaming(f"source '{self._named.name}'"):
            return self._named.source.parts()

    def split(self, part: str) -> Sequence[str]:
        """The names of smaller parts that are this one. Raises RunError."""
        with blaming(f"source '{self._named.name}'"):
            return self._named.source.split(part)

    def version(self, part: str) -> str:
        """What changes with a part's content. Raises RunError."""
        with blaming(f"source '{self._named.name}'"):
            return self._named.source.version(part)

    def size(self, part: str) -> int | None:
        """About how many bytes of text a part gives, if the source tells. Raises RunError."""
        with blaming(f"source '{self._named.name}'"):
            return self._named.source.size(part)

    def add(self, read: int, bad: Mapping[str, int], first: Sequence[Bad]) -> None:
        """Adds what was read of a part."""
        self.read += read
        self.bad.update(bad)
        self.first = [*self.first, *first][:_NAMED]

    def check(self) -> None:
        """Raises RunError if too many of the rows read so far are bad."""
        bad, limit = self.bad.total(), self._named.bad
        if bad <= max(_TOLERATED, limit * self.read):
            return
        places = "".join(f"\n  {row.id}: {row.what}" for row in self.first)
        raise RunError(
            f"source '{self._named.name}': {bad:,} of {self.read:,} rows are bad, more than its limit "
            f"`bad` of {limit:.3g}; fix them, describe them by `records` and `columns`, or raise "
            f"`bad`; the first are{places}"
        )

    def places(self) -> list[str]:
        """Ids and reasons of the first bad rows."""
        return [f"{row.id} {row.reason}" for row in self.first]


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Turns any error of a component into a RunError that names the component, and the line of its
    author's code where it came from."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        told = f"{what} failed: {type(error).__name__}: {error}{_place(error)}"
        raise RunError(told) from error


def _place(error: Exception) -> str:
    """Where an error left the package that the engine has called: `` (file.py:12)``; empty if it called
    none."""
    package, place = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name, _, _ = str(frame.f_globals.get("__name__")).partition(".")
        if name == package or (not package and name not in _OWN):
            package, place = name, f" ({Path(frame.f_code.co_filename).name}:{line})"
    return place


def unreadable(record: Record) -> Bad | None:
    """Why a record cannot be used, or None: its text has an unpaired surrogate, as JSON may, or NUL, a
    sign of damage; or it is nested too deeply to be serialised."""
    for name in (field.name for field in fields(record)):
        try:
            texts = list(_texts(getattr(record, name)))
        except RecursionError:
            return Bad(record.id, "too-deep", f"'{name}' is nested deeper than {_DEEPEST} levels")
        for text in () if name in _NOT_LEARNT else texts:
            if "\0" in text:
                return Bad(record.id, "nul", f"a NUL character in '{name}'")
            try:
                text.encode()
            except UnicodeEncodeError:
                what = f"an unpaired surrogate, which is not a character, in '{name}'"
                return Bad(record.id, "lone-surrogate", what)
    return None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """All texts in a value. Raises RecursionError if it is nested too deeply."""
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(key, depth + 1)
            yield from _texts(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part, depth + 1)
