"""Records from rows: by what the configuration says, and else by the shape of the first rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

from engine import Bad, Record, RunError, Schema, record_or_bad
from engine_data.shapes import SHAPES, SYNONYMS, Shape, ShapeError
from engine_data.tables import Row, Rows

_FIRST = 10
"""Rows that are looked at."""

Say = Callable[..., None]
"""Takes a message, and fields for the log."""


class Recogniser:
    """Makes records of a source's rows, all of one schema: that of ``records``, or the first file's.

    ``columns`` names the row's column for each field, before anything is recognised.
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
        if shape not in self._said:  # of a thousand files alike, the first speaks for all
            self._said.append(shape)
            told = f"{source}: {shape.name} → {shape.schema} records"
            self._say(told, shape=shape.name, schema=shape.schema)
        for row in chain(first, rows):
            yield row if isinstance(row, Bad) else self._record(shape, *row, source)

    def _shape(self, first: Sequence[tuple[str, Row] | Bad]) -> Shape:
        """The first shape of the table that fits at least half of these rows, or else most of them.

        Sets the schema. Raises RunError where none fits any, and where no row has a column that
        ``columns`` names.
        """
        rows = [row for row in first if not isinstance(row, Bad)]
        if not rows:
            bad = next(row for row in first if isinstance(row, Bad))
            raise RunError(
                f"{bad.id}: {bad.what}; none of its first {len(first)} rows can be read",
                mend="mend the file, convert it to UTF-8, or name it after what it is",
            )
        self._check_columns(rows)
        best, most = None, 0
        for shape in self._candidates():
            fits = sum(isinstance(self._record(shape, *row, ""), Record) for row in rows)
            if fits > most:
                best, most = shape, fits
            if 2 * fits >= len(rows):
                break
        if best is None:
            raise self._unknown(*rows[0])
        self.schema = best.schema
        return best

    def _candidates(self) -> list[Shape]:
        """Of the schema, where there is one; with all the columns that ``columns`` gives, where some
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
        """The row with the columns that `columns` names under their fields' names."""
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
                    mend=f"it has {_names(row)}",
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
                mend=f"mend the rows, which look like {shape.name}, or say by `records` and "
                "`columns` what they are",
            )
        what = f"have no {self.schema} records" if self.schema else "are of no known shape"
        told = f"{place}: its rows {what}: they have {_names(row)}"
        fields = ", ".join(shapes[0].columns) if self.schema else "a record's fields"
        said = f"say `columns: {proposed}`" if proposed else f"say by `columns` which are {fields}"
        return RunError(told, mend=f"{said}, or leave the file out")


def _proposed(row: Row, shapes: Sequence[Shape]) -> str | None:
    """``{field: column}`` for the first shape of which every field is there, by whatever name."""
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
