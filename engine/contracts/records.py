"""Records: what data sources give, processors change and objectives take.

Field names are the ecosystem's (as in TRL and the hub's data sets), so that rows pass unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar

from engine.contracts.component import Schema
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


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that makes no record: a source gives it in the record's place, and goes on.

    ``id`` says where it is (``talks.jsonl:8``), ``reason`` in kebab-case what it is counted by,
    ``what`` in words what is wrong.
    """

    id: str
    reason: str
    what: str


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_turn, value))


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, Mapping)
        and isinstance(turn.get("role"), str)
        and _is_content(turn.get("content"))
        and isinstance(turn.get("reasoning_content"), str | None)
        and _is_calls(turn.get("tool_calls"))
    )


def _is_content(content: Any) -> bool:
    return isinstance(content, str | None) or (
        isinstance(content, list)
        and all(
            isinstance(part, Mapping)
            and isinstance(part.get("type", ""), str)
            and isinstance(part.get("text", ""), str)
            for part in content
        )
    )


def _is_calls(calls: Any) -> bool:
    """Functions' names and arguments, by themselves or, as services have them, under ``function``."""
    return not calls or (isinstance(calls, list) and all(map(_is_named, calls)))


def _is_named(given: Any) -> bool:
    function = given.get("function", given) if isinstance(given, Mapping) else None
    return isinstance(function, Mapping) and isinstance(function.get("name"), str)


def _is_tool(given: Any) -> bool:
    return isinstance(given, Mapping) and isinstance(given.get("function", given), Mapping)


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(v, kind) for v in value)


_TURNS = "a list of messages, each with `role` and `content`"
_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "str": (lambda value: isinstance(value, str), "text"),
        "bool": (lambda value: isinstance(value, bool), "true or false"),
        "Sequence[str]": (_list_of(str), "a list of texts"),
        "Sequence[bool]": (_list_of(bool), "a list of true and false"),
        "Messages": (_is_turns, _TURNS),
        "Tools": (
            lambda value: isinstance(value, list) and all(map(_is_tool, value)),
            "a list of tools",
        ),
        "Said": (lambda value: isinstance(value, str) or _is_turns(value), f"text or {_TURNS}"),
    }
)
"""By the first word of a field's annotation: what is right, in code and in words."""


def record_or_bad(
    schema: Schema,
    row: Mapping[str, Any],
    *,
    id: str,  # noqa: A002 - the field's name
    source: str,
    license: str | None = None,  # noqa: A002 - the field's name
) -> Record | Bad:
    """A record from a row of a file or data set; columns that the schema lacks go into ``meta``.

    ``license`` stands where the row says none. ``id`` must tell all rows apart: a row's own ``id``,
    which need not, goes into ``meta``. Where a field is missing or has the wrong type, the row is bad.
    """
    cls = SCHEMAS[schema]
    own = {f.name: f for f in fields(cls) if f.name not in _COMMON}
    given = {name: row[name] for name in own if name in row}
    for name, wanted in own.items():
        optional = wanted.default is None
        if name not in given and not optional:
            needed = ", ".join(n for n, f in own.items() if f.default is not None)
            return Bad(id, "missing-field", f"no field '{name}' (a {schema} record needs {needed})")
        value = given.get(name)
        is_right, word = _TYPES[str(wanted.type).partition(" ")[0]]
        if not is_right(value) and not (optional and value is None):
            return Bad(id, "wrong-type", f"field '{name}' is {_kind(value)}, not {word}")
    said = row.get("license")
    return cls(
        id=id,
        source=source,
        license=license if said is None else str(said),
        meta={k: v for k, v in row.items() if k not in own and k != "license"},
        **given,
    )


def record_from_row(
    schema: Schema,
    row: Mapping[str, Any],
    *,
    id: str,  # noqa: A002 - the field's name
    source: str,
    license: str | None = None,  # noqa: A002 - the field's name
) -> Record:
    """What :func:`record_or_bad` makes of the row. Raises RunError, naming ``id``, for a bad one."""
    made = record_or_bad(schema, row, id=id, source=source, license=license)
    if isinstance(made, Bad):
        has = f"rename the column; it has {', '.join(map(str, row)) or 'none'}"
        hint = has if made.reason == "missing-field" else "mend the row, or leave it out"
        raise RunError(f"{made.id}: {made.what}", hint=hint)
    return made


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return f"a list of {' and '.join(sorted({type(v).__name__ for v in value})) or 'nothing'}"
    return type(value).__name__


def record_to_row(record: Record) -> dict[str, Any]:
    """The record as plain data, with its ``schema``; what is empty is left out."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {"schema": record.schema, **{k: v for k, v in values.items() if v not in (None, {})}}


def row_to_record(row: Mapping[str, Any]) -> Record:
    """The record that :func:`record_to_row` made the row of."""
    return SCHEMAS[row["schema"]](**{k: v for k, v in row.items() if k != "schema"})
