"""Records and the rows that they come from."""

from __future__ import annotations

import json

import pytest

from engine.contracts.records import (
    SCHEMAS,
    Bad,
    Chat,
    Completion,
    Preference,
    Text,
    record_from_row,
    record_or_bad,
    record_to_row,
    row_to_record,
)
from engine.errors import RunError

_ROWS = {
    "text": {"text": "a"},
    "chat": {"messages": [{"role": "user", "content": "a"}]},
    "completion": {"prompt": "a", "completion": "b"},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c", "chosen_safe": False},
    "labelled": {"prompt": "a", "completion": "b", "label": True},
    "stepwise": {"prompt": "a", "completions": ["b", "c"], "labels": [True, False]},
    "prompt": {"prompt": "a"},
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_row_becomes_a_record_and_comes_back(schema):
    """For every schema, through JSON, with its licence and what else was in the row."""
    row = {**_ROWS[schema], "license": "MIT", "stars": 3}
    record = record_from_row(schema, row, id="f:1", source="f")
    assert isinstance(record, SCHEMAS[schema])
    assert (record.id, record.source, record.license) == ("f:1", "f", "MIT")
    assert record.meta == {"stars": 3}
    assert {name: getattr(record, name) for name in _ROWS[schema]} == _ROWS[schema]
    assert row_to_record(json.loads(json.dumps(record_to_row(record)))) == record


def test_columns_named_like_common_fields_are_kept_in_meta():
    """A data set's own id need not be unique, nor its source a place; nothing of it is lost."""
    row = {"text": "a", "id": 0, "source": "wiki", "meta": {"x": 1}}
    record = record_from_row("text", row, id="f:1", source="f", license="CC0-1.0")
    assert record == Text(
        id="f:1",
        source="f",
        license="CC0-1.0",
        text="a",
        meta={"id": 0, "source": "wiki", "meta": {"x": 1}},
    )


@pytest.mark.parametrize(("said", "kept"), [("MIT", "MIT"), (None, "CC0-1.0"), (["a"], "['a']")])
def test_the_rows_own_licence_comes_first(said, kept):
    """The source's licence stands where the row says none."""
    row = {"text": "a", "license": said}
    assert record_from_row("text", row, id="i", source="s", license="CC0-1.0").license == kept


@pytest.mark.parametrize(
    ("schema", "row", "told"),
    [
        ("text", {"body": "a"}, "f:1: no field 'text' .*rename the column; it has body"),
        ("preference", {"prompt": "a"}, "no field 'chosen' .*needs prompt, chosen, rejected"),
        ("text", {"text": None}, "f:1: field 'text' is NoneType, not text"),
        ("completion", {"prompt": "a", "completion": 4}, "field 'completion' is int, not text"),
        ("chat", {"messages": "hello"}, "field 'messages' is str, not a list"),
        ("labelled", {**_ROWS["labelled"], "label": 1}, "'label' is int, not true or false"),
        ("preference", {**_ROWS["preference"], "rejected_safe": "no"}, "'rejected_safe' is str"),
    ],
)
def test_a_row_of_another_shape_is_an_error_that_names_it(schema, row, told):
    """With the field, what is wrong with it, and what there is instead."""
    with pytest.raises(RunError, match=told):
        record_from_row(schema, row, id="f:1", source="f")


def test_records_are_values():
    """They can be compared, and not changed under another's hands."""
    record = Completion(id="1", source="s", prompt="a", completion="b")
    assert record == Completion(id="1", source="s", prompt="a", completion="b")
    with pytest.raises(AttributeError):
        record.prompt = "c"
    assert Chat(id="1", source="s", messages=[]).schema == "chat"
    assert Preference(id="1", source="s", prompt="", chosen="", rejected="").chosen_safe is None


@pytest.mark.parametrize(
    "turn",
    [
        *({"content": [part]} for part in ("x", 1, None, ["x"], {"text": 1}, {"type": ["x"]})),
        *({"tool_calls": calls} for calls in ("x", 1, [1], [None], {"name": "x"}, [{}])),
        *({"tool_calls": [{"function": given}]} for given in (1, ["x"], {}, {"name": 1})),
        {"reasoning_content": ["x"]},
    ],
)
def test_a_turn_that_no_template_could_write_is_bad(turn):
    """Its row is named and left out, and does not end the stage."""
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **turn}]
    made = record_or_bad("chat", {"messages": messages}, id="a.jsonl:1", source="a")
    assert isinstance(made, Bad)
    assert made.reason == "wrong-type"
