"""The rows of a source: its records, and a count of the rows that make none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from engine.component import DataSource
from engine.data.records import Bad, Record
from engine.errors import EngineError, RunError

LIMIT = 0.01
"""The share of a source's rows that may be bad, where its configuration says none."""
_TOLERATED = 9
"""Bad rows that never stop a stage, however few rows the source has."""
_NAMED = 10
"""Of the bad rows, so many are named."""
_NOT_LEARNT = frozenset({"id", "source", "license", "meta"})


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source with the name that the card and the records carry, and the share of its rows that may
    be bad."""

    name: str
    source: DataSource
    bad: float = LIMIT


class Rows:
    """Iterates over a source's records and counts its bad rows, by reason in ``bad``.

    Raises RunError at the end of the source where too many rows are bad.
    """

    def __init__(self, named: NamedSource) -> None:
        self._named = named
        self.read = 0
        self.bad: Counter[str] = Counter()
        self.first: list[Bad] = []

    def __iter__(self) -> Iterator[Record]:
        with blaming(f"source '{self._named.name}'"):
            for row in self._named.source.records(0, 1):
                if not isinstance(row, Record | Bad):
                    raise TypeError(f"it gave {row!r}, which is no record")
                self.read += 1
                bad = row if isinstance(row, Bad) else unreadable(row)
                if bad is None:
                    assert isinstance(row, Record)
                    yield row
                    continue
                self.bad[bad.reason] += 1
                if len(self.first) < _NAMED:
                    self.first.append(bad)
        self.check()

    def check(self) -> None:
        """Raises RunError where more of the rows that were read are bad than the source may have."""
        bad, limit = self.bad.total(), self._named.bad
        if bad <= max(_TOLERATED, limit * self.read):
            return
        places = "".join(f"\n  {row.id}: {row.what}" for row in self.first)
        raise RunError(
            f"source '{self._named.name}': {bad:,} of {self.read:,} rows are bad, more than its limit "
            f"`bad` of {limit:.3g}; mend them, say by `records` and `columns` what they are, or raise "
            f"`bad`; the first are{places}"
        )

    def places(self) -> list[str]:
        """Where the first bad rows are, and why."""
        return [f"{row.id} {row.reason}" for row in self.first]


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Names the component in which an error is; it may be anybody's, and raise anything."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise RunError(f"{what} failed: {type(error).__name__}: {error}") from error


def unreadable(record: Record) -> Bad | None:
    """What no tokenizer takes: half of a surrogate pair, as JSON may hold it; or NUL, which text has
    only where it is damaged. None for a record without them."""
    for f in fields(record):
        if f.name in _NOT_LEARNT:
            continue
        for text in _texts(getattr(record, f.name)):
            if "\0" in text:
                return Bad(record.id, "nul", f"a NUL character in '{f.name}'")
            try:
                text.encode()
            except UnicodeEncodeError:
                what = f"half of a surrogate pair, which is no character, in '{f.name}'"
                return Bad(record.id, "lone-surrogate", what)
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(key)
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
