"""Records: what data sources give, processors change and objectives take.

Field names are the ecosystem's (as in TRL and the hub's data sets), so that rows pass unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

from engine.component import Schema
from engine.errors import RunError

Messages = Sequence[Mapping[str, Any]]
"""Turns, each with ``role`` and ``content``; an assistant's may have ``tool_calls``."""
Said = str | Messages
"""A text, or turns: a prompt's up to the answer, an answer's own."""
Tools = Sequence[Mapping[str, Any]]
"""What a model may call, as JSON schemas, for its chat template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What all records have: a stable ``id``, where they come from, and under which licence."""

    schema: ClassVar[Schema]

    id: str
    source: str
    license: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Record):
    """A document."""

    schema: ClassVar[Schema] = "text"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat(Record):
    """A conversation: messages with ``role`` and ``content``, which may be a list of parts."""

    schema: ClassVar[Schema] = "chat"
    messages: Messages
    tools: Tools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Record):
    """A prompt and its answer."""

    schema: ClassVar[Schema] = "completion"
    prompt: Said
    completion: Said
    tools: Tools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Record):
    """Two answers, the first preferred; optional safety labels as Safe RLHF has them."""

    schema: ClassVar[Schema] = "preference"
    prompt: Said
    chosen: Said
    rejected: Said
    chosen_safe: bool | None = None
    rejected_safe: bool | None = None
    tools: Tools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Record):
    """An answer that is good or bad (KTO)."""

    schema: ClassVar[Schema] = "labelled"
    prompt: Said
    completion: Said
    label: bool
    tools: Tools | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepwise(Record):
    """An answer in steps, each judged (process reward models)."""

    schema: ClassVar[Schema] = "stepwise"
    prompt: str
    completions: Sequence[str]
    labels: Sequence[bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt(Record):
    """A prompt that the model itself will answer."""

    schema: ClassVar[Schema] = "prompt"
    prompt: Said
    tools: Tools | None = None


SCHEMAS: Mapping[Schema, type[Record]] = MappingProxyType(
    {cls.schema: cls for cls in (Text, Chat, Completion, Preference, Labelled, Stepwise, Prompt)}
)
_COMMON = frozenset(f.name for f in fields(Record))
_SHAPES: Mapping[str, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        "str": ((str,), "text"),
        "bool": ((bool,), "true or false"),
        "Sequence": ((list,), "a list"),
        "Messages": ((list,), "a list of messages"),
        "Tools": ((list,), "a list of tools"),
        "Said": ((str, list), "text or a list of messages"),
    }
)
"""By the first word of a field's annotation."""


def record_from_row(
    schema: Schema,
    row: Mapping[str, Any],
    *,
    id: str,  # noqa: A002 - the field's name
    source: str,
    license: str | None = None,  # noqa: A002 - the field's name
) -> Record:
    """A record from a row of a file or data set; columns that the schema lacks go into ``meta``.

    ``license`` stands where the row says none. ``id`` must tell all rows apart: a row's own ``id``,
    which need not, goes into ``meta``. Raises RunError, naming ``id``, when a field is missing or
    has the wrong type.
    """
    cls = SCHEMAS[schema]
    own = {f.name: f for f in fields(cls) if f.name not in _COMMON}
    given = {name: row[name] for name in own if name in row}
    for name, wanted in own.items():
        optional = wanted.default is None
        if name not in given and not optional:
            needed = ", ".join(n for n, f in own.items() if f.default is not None)
            raise RunError(
                f"{id}: no field '{name}' (a {schema} record needs {needed})",
                mend=f"rename the column; it has {', '.join(map(str, row)) or 'none'}",
            )
        value = given.get(name)
        shape, word = _SHAPES[str(wanted.type).partition("[")[0].partition(" ")[0]]
        if not isinstance(value, shape) and not (optional and value is None):
            raise RunError(
                f"{id}: field '{name}' is {type(value).__name__}, not {word}",
                mend="mend the row, or leave it out",
            )
    said = row.get("license")
    return cls(
        id=id,
        source=source,
        license=license if said is None else str(said),
        meta={k: v for k, v in row.items() if k not in own and k != "license"},
        **given,
    )


def record_to_row(record: Record) -> dict[str, Any]:
    """The record as plain data, with its ``schema``; what is empty is left out."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {"schema": record.schema, **{k: v for k, v in values.items() if v not in (None, {})}}


def row_to_record(row: Mapping[str, Any]) -> Record:
    """The record that :func:`record_to_row` made the row of."""
    return SCHEMAS[row["schema"]](**{k: v for k, v in row.items() if k != "schema"})
