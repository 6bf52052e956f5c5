"""A record's plain text has all that is said in it, and can always be written down."""

from __future__ import annotations

import pytest

from engine.contracts.records import (
    Chat,
    Completion,
    Labelled,
    Preference,
    Prompt,
    Stepwise,
    Text,
)
from engine.data.plain_text import plain_text
from engine.data.records import unreadable

_OF = {"id": "r:1", "source": "s"}
_CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (Text(**_OF, text=" as it is\n"), " as it is\n"),
        (Completion(**_OF, prompt="P", completion="C"), "P\n\nC"),
        (Labelled(**_OF, prompt="P", completion="C", label=False), "P\n\nC"),
        (Preference(**_OF, prompt="P", chosen="A", rejected="B"), "P\n\nA\n\nB"),
        (Stepwise(**_OF, prompt="P", completions=["1", "2"], labels=[True, False]), "P\n\n1\n\n2"),
        (Prompt(**_OF, prompt="P", meta={"answer": 7}), "P\n\n7"),
        (Prompt(**_OF, prompt="P", meta={"answer": ["no", "text"]}), "P"),
        (Completion(**_OF, prompt="P", completion="C", meta={"answer": "7"}), "P\n\nC"),
    ],
    ids=lambda value: getattr(value, "schema", None),
)
def test_all_fields_are_joined_by_blank_lines(record, text):
    """A document is as it is; the answer of a prompt stands among its further columns."""
    assert plain_text(record) == text


def test_turns_have_thoughts_text_and_calls():
    """Of all roles, whatever their parts; nothing is made of what is empty."""
    turns = [
        {"role": "system", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "Add"}, {"type": "image"}]},
        {"role": "assistant", "reasoning_content": "Hm.", "content": None, "tool_calls": [_CALL]},
    ]
    expected = 'Add\n\nHm.\n\n[{"function": {"name": "add", "arguments": {"a": 1}}}]'
    assert plain_text(Chat(**_OF, messages=turns)) == expected


def test_without_words_records_differ_by_their_ids():
    """So that none is taken for a copy of another."""
    assert (
        plain_text(Chat(**_OF, messages=[{"role": "user", "content": [{"type": "image"}]}]))
        == "r:1"
    )


def test_a_text_can_always_be_used():
    """Whatever stands in columns that nobody learns from."""
    made = plain_text(Prompt(**_OF, prompt="P", meta={"answer": "a\0b\ud800"}))
    assert unreadable(Text(**_OF, text=made)) is None
    assert made.startswith("P\n\na")
