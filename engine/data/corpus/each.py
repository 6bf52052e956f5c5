"""Processors of a function of one document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.contracts.data import Processor
from engine.contracts.records import Text
from engine.data.records import blaming

if TYPE_CHECKING:
    import pyarrow as pa

Found = Text | str | Mapping[str, Any]
"""What becomes of a document: the document, changed or not; the rule that drops it; or annotations."""


def each(function: Callable[[Text], Found]) -> Processor:
    """A processor that calls a pure function for each document.

    The function gets an :class:`engine.Text`. It returns the document, with another text or as it is;
    the name of the rule that drops it; or annotations by name, numbers and texts.
    """
    return _Each(function)


class _Each(Processor):
    def __init__(self, function: Callable[[Text], Found]) -> None:
        self._function = function

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`. Raises RunError naming the document where it fails."""
        from engine.data.corpus.parts import records_in

        return columns_from(map(self._row, records_in(batch)))

    def _row(self, document: Text) -> Mapping[str, Any]:
        with blaming_at(self._function, document):
            return row_from(document, self._function(document))


def blaming_at(culprit: Any, document: Text) -> AbstractContextManager[None]:
    """Turns any error into a RunError that names the function, or object's class, and the document."""
    named = culprit if hasattr(culprit, "__qualname__") else type(culprit)
    place = f"at record '{document.id}' of '{document.source}',"
    return blaming(f"processor {named.__module__}.{named.__qualname__}, {place}")


def row_from(document: Text, found: Any) -> Mapping[str, Any]:
    """The columns of a document for which a function gave this. Raises TypeError for what it may not
    give."""
    if isinstance(found, str):
        return {"drop": found}
    if isinstance(found, Text):
        if replace(found, text=document.text) != document:
            raise TypeError("it changed more of the document than its text")
        return {} if found.text == document.text else {"text": found.text}
    if not isinstance(found, Mapping):
        raise TypeError(f"it gave {found!r}, neither a record nor the name of a rule")
    return found


def columns_from(rows: Iterable[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Arrays of values by name; null where a row has none."""
    import pyarrow as pa

    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: pa.array([row.get(name) for row in rows]) for name in names}
