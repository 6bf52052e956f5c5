"""Turns rows into records, by the configured schema or by the shape of the first rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

from engine import (
    Bad,
    Record,
    RunError,
    Schema,
    record_or_bad,
)
from engine_data.rows.readers import Row, Rows
from engine_data.rows.shapes import SHAPES, SYNONYMS, Shape
from engine_data.rows.turns import ShapeError

_FIRST = 10
"""Number of rows in which a shape is recognised."""

Say = Callable[..., None]
"""Shows the user a message, with fields for the log."""


class Recogniser:
    """Turns a source's rows into records of one schema: ``records``, or that of the first file.

    ``columns`` maps fields to columns of the rows, and is applied before recognition.
    """

    def __init__(
        self,
        records: Schema | Literal["auto"],
        columns: Mapping[str, str],
        *,
        license: str | None = None,  # noqa: A002 - the field's name
        say: Say = lambda message, **fields: None,
    ) -> None:
        self.schema: Schema | None = None if records == "auto" else records
        self._columns = columns
        self._license = license
        self._say = say
        self._said: list[Shape] = []

    def records(self, rows: Rows, source: str) -> Iterator[Record | Bad]:
        """The records of one file or data set. Raises RunError where no shape fits its first rows."""
        first = list(islice(rows, _FIRST))
        if not first:
            return
        shape = self._shape(first)
        if shape not in self._said:  # said once, even for thousands of files
            self._said.append(shape)
            told = f"{source}: {shape.name} → {shape.schema} records"
            self._say(told, shape=shape.name, schema=shape.schema)
        for row in chain(first, rows):
            if isinstance(row, Bad):
                yield row
            else:
                place, given = row
                yield self._record(shape, place, given, source)

    def _shape(self, first: Sequence[tuple[str, Row] | Bad]) -> Shape:
        """The first shape that fits at least half of these rows, else the one that fits most of them.

        Sets the schema. Raises RunError where no shape fits any row, and where no row has a column that
        ``columns`` names.
        """
        rows = [row for row in first if not isinstance(row, Bad)]
        if not rows:
            bad = next(row for row in first if isinstance(row, Bad))
            raise RunError(
                f"{bad.id}: {bad.what}; none of its first {len(first)} rows can be read",
                hint="repair the file, convert it to UTF-8, or correct its name's suffix",
            )
        self._check_columns(rows)
        best, most = None, 0
        for shape in self._candidates():
            fits = sum(isinstance(self._record(shape, *row, source=""), Record) for row in rows)
            if fits > most:
                best, most = shape, fits
            if 2 * fits >= len(rows):
                break
        if best is None:
            raise self._unknown(*rows[0])
        self.schema = best.schema
        return best

    def _candidates(self) -> list[Shape]:
        """Shapes to try: those of the schema, if set, and those with all fields in ``columns``, if any
        shape has them."""
        wanted = [shape for shape in SHAPES if self.schema in (None, shape.schema)]
        named = self._columns.keys() & {c for s in SHAPES for c in (*s.columns, *s.optional)}
        return [s for s in wanted if named <= {*s.columns, *s.optional}] or wanted

    def _record(self, shape: Shape, place: str, row: Row, source: str) -> Record | Bad:
        row = self._renamed(row)
        try:
            fields = shape.fields(row)
        except ShapeError as error:
            return Bad(place, error.reason, error.what)
        return record_or_bad(shape.schema, fields, id=place, source=source, license=self._license)

    def _renamed(self, row: Row) -> Row:
        """The row with columns renamed to fields, as ``columns`` says."""
        if not self._columns:
            return row
        taken = {*self._columns, *self._columns.values()}
        given = {field: row[c] for field, c in self._columns.items() if c in row}
        return {k: v for k, v in row.items() if k not in taken} | given

    def _check_columns(self, rows: Sequence[tuple[str, Row]]) -> None:
        there = {column for _, row in rows for column in row}
        for field, column in self._columns.items():
            if column not in there:
                place, row = rows[0]
                raise RunError(
                    f"{place}: no column '{column}', which `columns` names for '{field}'",
                    hint=f"it has {_names(row)}",
                )

    def _unknown(self, place: str, given: Row) -> RunError:
        row = self._renamed(given)
        shapes = self._candidates()
        proposed = _proposed(row, shapes)
        for shape in (shape for shape in shapes if set(shape.columns) <= row.keys()):
            bad = self._record(shape, place, given, "")
            assert isinstance(bad, Bad)
            if proposed and bad.reason == "wrong-shape":
                continue
            return RunError(
                f"{place}: {bad.what}",
                hint=f"the rows look like {shape.name}: mend them, or set `records` and `columns` to "
                "what they are",
            )
        what = f"have no {self.schema} records" if self.schema else "are of no known shape"
        told = f"{place}: its rows {what}: they have {_names(row)}"
        fields = ", ".join(shapes[0].columns) if self.schema else "a record's fields"
        said = f"set `columns: {proposed}`" if proposed else f"map columns to {fields} by `columns`"
        return RunError(told, hint=f"{said}, or leave the file out")


def _proposed(row: Row, shapes: Sequence[Shape]) -> str | None:
    """``{field: column}`` for the first shape that fits the row when columns are renamed."""
    for shape in shapes:
        found: dict[str, str] = {}
        for field in shape.columns:
            names = (field, *SYNONYMS.get(field, ()))
            column = next((n for n in names if n in row and n not in found.values()), None)
            if column is not None:
                found[field] = column
        renamed = {field: column for field, column in found.items() if field != column}
        if len(found) == len(shape.columns) and renamed:
            return f"{{{', '.join(f'{field}: {column}' for field, column in renamed.items())}}}"
    return None


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "none"
