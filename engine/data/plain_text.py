"""The texts of records: of a turn, of the turns of a field, and of a whole record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.contracts.records import Messages, Prompt, Record, Stepwise, Text

_FIELDS = ("messages", "prompt", "completion", "chosen", "rejected")


def plain_text(record: Record) -> str:
    """What a record says, as one text: a document's text; else all turns and answers, in their order,
    with blank lines between, and of a prompt also ``meta.answer``. Without words it is the ``id``.

    Roles, tools and labels are left out. Each character can be encoded, and none is NUL.
    """
    if isinstance(record, Text):
        return record.text
    turns = (turn for name in _FIELDS for turn in turns_of(record, name))
    said = [text for turn in turns for text in _said(turn)]
    if isinstance(record, Stepwise):
        said += record.completions
    if isinstance(record, Prompt) and isinstance(record.meta.get("answer"), str | int | float):
        said.append(str(record.meta["answer"]))
    whole = "\n\n".join(text for text in said if text.strip()) or record.id
    return whole.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")


def turns_of(record: Record, name: str) -> Messages:
    """The turns of a field; a plain text is one turn, the user's if the field is the prompt."""
    value: Any = getattr(record, name, None) or []
    if isinstance(value, str):
        return [{"role": "user" if name == "prompt" else None, "content": value}]
    return [turn for turn in value if isinstance(turn, Mapping)]


def text_of(turn: Mapping[str, Any]) -> str:
    """The text of a turn, its parts joined by spaces."""
    content = turn.get("content")
    if isinstance(content, list | tuple):
        parts = (p.get("text") if isinstance(p, Mapping) else p for p in content)
        return " ".join(str(part) for part in parts if part)
    return "" if content is None else str(content)


def _said(turn: Mapping[str, Any]) -> Iterator[str]:
    """A turn's thoughts, its text, and its calls of tools."""
    yield str(turn.get("reasoning_content") or "")
    yield text_of(turn)
    if calls := turn.get("tool_calls"):
        yield json.dumps(calls, ensure_ascii=False, default=str)
