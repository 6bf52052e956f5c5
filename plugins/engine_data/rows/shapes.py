"""The shapes of rows that are recognised, and the records made of them.

``python -m engine_data.rows.shapes README.md`` updates the table of shapes in a README.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import Schema
from engine_data.rows.turns import (
    ShapeError,
    boolean,
    dialogue,
    is_dialogue,
    prompt_and_answers,
    text_or_turns,
    tools,
    turns,
)

_BEGIN, _END = "<!-- record shapes -->", "<!-- end of record shapes -->"
Row = Mapping[str, Any]
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of rows: rows with these ``columns`` become records of ``schema``.

    ``read`` makes a record's fields from these and the ``optional`` columns, and raises ShapeError
    where their values do not fit.
    """

    name: str
    columns: tuple[str, ...]
    schema: Schema
    becomes: str
    read: Callable[[Row], Fields]
    optional: tuple[str, ...] = ()

    def fields(self, row: Row) -> Fields:
        """The record's fields; columns outside the shape go into ``meta``."""
        missing = next((name for name in self.columns if name not in row), None)
        if missing is not None:
            raise ShapeError(
                "missing-field", f"no column '{missing}', which a row of {self.name} has"
            )
        known = {*self.columns, *self.optional}
        found = {name: value for name, value in row.items() if name not in known}
        if "tools" in found and self.schema not in ("text", "stepwise"):
            found["tools"] = tools(found["tools"])
        return found | self.read(row)


def _preference(row: Row) -> Fields:
    return prompt_and_answers(row.get("prompt"), row["chosen"], row["rejected"]) | {
        name: boolean(name, row[name])
        for name in ("chosen_safe", "rejected_safe")
        if row.get(name) is not None
    }


def _dialogues(row: Row) -> Fields:
    if not (is_dialogue(row["chosen"]) and is_dialogue(row["rejected"])):
        raise ShapeError(
            "wrong-shape", "no dialogue of `Human:` and `Assistant:`, each after an empty line"
        )
    return prompt_and_answers(None, dialogue(row["chosen"]), dialogue(row["rejected"]))


def _conversation_preference(row: Row) -> Fields:
    return prompt_and_answers(
        turns("conversations", row["conversations"]), row["chosen"], row["rejected"]
    )


def _completion(row: Row) -> Fields:
    prompt, completion = (text_or_turns(name, row[name]) for name in ("prompt", "completion"))
    if isinstance(prompt, list) and isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    if isinstance(completion, list) and isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    return {"prompt": prompt, "completion": completion}


def _labelled(row: Row) -> Fields:
    return _completion(row) | {"label": boolean("label", row["label"])}


def _stepwise(row: Row) -> Fields:
    labels = row["labels"]
    if isinstance(labels, list):
        labels = [boolean("labels", label) for label in labels]
    return {"prompt": row["prompt"], "completions": row["completions"], "labels": labels}


def _instruction(row: Row) -> Fields:
    parts = [row["instruction"], row.get("input") or ""]
    if not all(isinstance(part, str) for part in parts):
        raise ShapeError("wrong-type", "instruction or input is not text")
    return {"prompt": "\n\n".join(p for p in parts if p.strip()), "completion": row["output"]}


def _conversation(column: str) -> Callable[[Row], Fields]:
    def read(row: Row) -> Fields:
        found, system = turns(column, row[column]), row.get("system")
        if (
            isinstance(system, str)
            and system.strip()
            and found[:1]
            and found[0]["role"] != "system"
        ):
            found = [{"role": "system", "content": system}, *found]
        return {"messages": found}

    return read


_ANSWERS = ("prompt", "chosen", "rejected")
_SAFETY = ("chosen_safe", "rejected_safe")
_WHOLE = "the turns that both answers begin with → prompt"

SHAPES: tuple[Shape, ...] = (
    Shape("preferences", _ANSWERS, "preference", f"as they are; of whole conversations {_WHOLE}",
          _preference, _SAFETY),
    Shape("preferences after a conversation (ShareGPT)", ("conversations", "chosen", "rejected"),
          "preference", "conversations → prompt", _conversation_preference),
    Shape("paired dialogues (HH)", ("chosen", "rejected"), "preference",
          f"texts of `Human:` and `Assistant:` → turns; {_WHOLE}", _dialogues),
    Shape("paired conversations", ("chosen", "rejected"), "preference", _WHOLE, _preference, _SAFETY),
    Shape("steps with labels", ("prompt", "completions", "labels"), "stepwise",
          "as they are; labels 0 and 1 → false and true", _stepwise),
    Shape("answers with a label", ("prompt", "completion", "label"), "labelled",
          "as they are; label 0 or 1 → false or true", _labelled),
    Shape("prompts and completions", ("prompt", "completion"), "completion", "as they are",
          _completion),
    Shape("instructions (Alpaca)", ("instruction", "output"), "completion",
          "instruction, an empty line and input → prompt; output → completion", _instruction,
          ("input",)),
    Shape("messages (OpenAI)", ("messages",), "chat", "as they are", _conversation("messages")),
    Shape("conversations (ShareGPT)", ("conversations",), "chat", "conversations → messages, "
          "from → role, value → content; system → a first turn", _conversation("conversations"),
          ("system",)),
    Shape("a conversation", ("conversation",), "chat", "conversation → messages",
          _conversation("conversation"), ("system",)),
    Shape("texts", ("text",), "text", "as they are", lambda row: {"text": row["text"]}),
    Shape("prompts", ("prompt",), "prompt", "as they are",
          lambda row: {"prompt": text_or_turns("prompt", row["prompt"])}),
)  # fmt: skip
"""Shapes in the order in which they are tried; a row's other columns go into ``meta``."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "text": ("content", "body", "document", "article", "code", "markdown", "passage", "story"),
    "prompt": ("question", "query", "instruction", "problem", "input", "user"),
    "completion": ("answer", "response", "output", "solution", "target", "reply", "assistant"),
    "chosen": ("preferred", "accepted", "response_chosen", "chosen_response"),
    "rejected": ("dispreferred", "response_rejected", "rejected_response"),
    "messages": ("dialog", "dialogue", "turns", "chat", "history"),
    "label": ("good", "is_good", "thumbs_up"),
}
"""Frequent column names for each field; errors propose them, but they are never assumed."""


def refreshed(text: str) -> str:
    """The Markdown text with the table of shapes between its marks updated."""
    lines = ["| rows | columns | records | how |", "|---|---|---|---|"]
    for shape in SHAPES:
        columns = ", ".join(
            [f"`{c}`" for c in shape.columns] + [f"(`{c}`)" for c in shape.optional]
        )
        lines.append(f"| {shape.name} | {columns} | {shape.schema} | {shape.becomes} |")
    head, _, rest = text.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    return "\n".join([head + _BEGIN, "", *lines, "", _END + tail])


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(refreshed(readme.read_text(encoding="utf-8")), encoding="utf-8")
