"""Parts of a corpus: a table of documents, and beside it a table of columns from each step.

A row of each of these tables is a document. Of a column ``text`` a value that is not null replaces the
document's text; the first value of ``drop`` that is not null drops it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contracts.records import Text
from engine.data.corpus.store import Store, key_of

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("license", pa.string()),
        ("url", pa.string()),
        ("meta", pa.string()),
    ]
)
ADDRESS = ("part", "row")
_OWN = {*DOCUMENT.names, "priority", "tokens"} - {"text"}


@dataclass(frozen=True, slots=True)
class Part:
    """Keys of its documents and of its columns; ``source``: the number of its source, and ``priority``
    which of two copies stays: that of the higher. ``name``: the source's in the spec."""

    source: int
    documents: str
    columns: tuple[str, ...] = ()
    priority: int = 1
    name: str = ""

    @property
    def key(self) -> str:
        """Names the part as it is after these steps."""
        return key_of(self.documents, *self.columns)

    def with_columns(self, columns: str) -> Part:
        """The part after one more step."""
        return replace(self, columns=(*self.columns, columns))


def table_of(records: Sequence[Text]) -> pa.Table:
    """The documents of a part."""
    return pa.table(
        {
            "id": [whole_name(record.id) for record in records],
            "text": [record.text for record in records],
            "source": [whole_name(record.source) for record in records],
            "license": [record.license and whole_name(record.license) for record in records],
            "url": [_url(record.meta) for record in records],
            "meta": [json.dumps(dict(record.meta), default=str) for record in records],
        },
        schema=DOCUMENT,
    )


def records_in(documents: pa.Table | pa.RecordBatch) -> Iterator[Text]:
    """The documents of a table or batch as records."""
    own = documents.select(["id", "text", "source", "license", "meta"])
    for row in own.to_pylist():
        yield Text(**{**row, "meta": json.loads(row["meta"])})


def all_documents(store: Store, part: Part, number: int) -> pa.Table:
    """A part's documents with their addresses, the columns of all steps, and ``drop``."""
    table = store.read(part.documents)
    count = table.num_rows
    table = table.append_column("part", pa.array(np.full(count, number, np.int32)))
    table = table.append_column("row", pa.array(np.arange(count, dtype=np.int64)))
    table = table.append_column("drop", pa.nulls(count, pa.string()))
    for key in part.columns:
        table = _joined(table, store.read(key))
    return table


def named_source(documents: pa.Table, part: Part) -> pa.Table:
    """Documents of a part whose ``source`` is the name of their source in the spec."""
    if not part.name:
        return documents
    at = documents.schema.get_field_index("source")
    return documents.set_column(
        at, "source", pa.array([part.name] * documents.num_rows, pa.string())
    )


def kept_documents(store: Store, part: Part, number: int) -> pa.Table:
    """Those that no step has dropped."""
    return kept_of(all_documents(store, part, number))


def kept_of(table: pa.Table) -> pa.Table:
    """Of all documents those that no step has dropped."""
    return table.filter(pc.is_null(table.column("drop"))).drop(["drop"])


def divided(kept: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Documents that are held out, and those that training gets."""
    if not kept.num_rows:
        return kept, kept
    held = kept.column("_held")
    return kept.filter(held), kept.filter(pc.invert(held))


def scattered(found: pa.Table, count: int) -> pa.Table:
    """Columns found of some rows of a part, with null for the others of its ``count`` rows.

    Raises TypeError for a name that documents have themselves, but for their text, and for a text or a
    rule that is none.
    """
    values = found.drop([name for name in ADDRESS if name in found.column_names])
    for name in values.column_names:
        if name in _OWN:
            raise TypeError(f"it gave '{name}', a name that the engine uses itself")
        kind = values.schema.field(name).type
        if name in ("text", "drop") and not _is_text(kind):
            raise TypeError(f"it gave {kind} as '{name}', which is not text")
    if not values.num_columns:
        return values
    at = np.full(count, -1)
    at[found.column("row").to_numpy()] = np.arange(found.num_rows)
    return values.take(pa.array(at, mask=at < 0))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    )


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, with null where the table has none."""
    given = {
        field.name: table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    }
    return pa.table(given, schema=schema)


def _joined(table: pa.Table, columns: pa.Table) -> pa.Table:
    for name in columns.column_names:
        values = columns.column(name)
        if name == "text":
            values = pc.coalesce(values.cast(pa.large_string()), table.column(name))
        elif name == "drop":
            values = pc.coalesce(table.column(name), values.cast(pa.string()))
        at = table.schema.get_field_index(name)
        table = table.append_column(name, values) if at < 0 else table.set_column(at, name, values)
    return table


def whole_name(name: str) -> str:
    """A name as characters, also of a file whose name is not UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _url(meta: Mapping[str, Any]) -> str | None:
    url = meta.get("url")
    return whole_name(url) if isinstance(url, str) else None
