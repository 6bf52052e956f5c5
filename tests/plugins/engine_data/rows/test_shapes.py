"""Rows as data sets have them become records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import engine_data
import pytest
from engine_data.config import Files
from engine_data.rows.shapes import SHAPES, refreshed
from engine_data.sources.files import build
from support.sources import records_of

from engine import Bad, RunError, record_to_row
from engine.testing import StandAloneContext

_USER = {"role": "user", "content": "q"}
_GOOD, _POOR = ({"role": "assistant", "content": c} for c in ("good", "poor"))
_SYSTEM = {"role": "system", "content": "Be short."}
_PAIR = {"schema": "preference", "prompt": [_USER], "chosen": [_GOOD], "rejected": [_POOR]}
_TEXTS = {"schema": "preference", "prompt": "q", "chosen": "a", "rejected": "b"}
_COMPLETION = {"schema": "completion", "prompt": [_USER], "completion": [_GOOD]}
_CHAT = {"schema": "chat", "messages": [_USER, _GOOD]}
_TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
_CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


def _read(folder: Path, *rows: Any, **options: Any) -> list[Any]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = build(Files(paths=(str(file),), **options), StandAloneContext())
    return records_of(source)


def _fields(folder: Path, row: Any, **options: Any) -> dict[str, Any]:
    (record,) = _read(folder, row, **options)
    row = record_to_row(record)
    return {name: row[name] for name in row if name not in ("id", "source", "meta")}


def _hh(answer: str) -> str:
    return f"\n\nHuman: q\n\nAssistant: {answer}"


def _shared(*turns: Any) -> dict[str, Any]:
    return {"chosen": [*turns, _GOOD], "rejected": [*turns, _POOR]}


_CALLED = [
    {"from": "human", "value": "q"},
    {"from": "function_call", "value": json.dumps(_CALL["function"])},
    {"from": "observation", "value": "1"},
    {"from": "gpt", "value": "good"},
]
_CALLS = [
    _USER,
    {"role": "assistant", "content": None, "tool_calls": [_CALL]},
    {"role": "tool", "content": "1"},
    _GOOD,
]
_SHARE = {"from": "human", "value": "q"}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, _TEXTS),
        ({"prompt": [_USER], "chosen": [_GOOD], "rejected": [_POOR]}, _PAIR),
        ({"prompt": [_USER], "chosen": _GOOD, "rejected": _POOR}, _PAIR),
        ({"prompt": "q", "chosen": [_GOOD], "rejected": [_POOR]}, _PAIR),
        ({"prompt": "q", **_shared(_USER)}, _PAIR),
        ({"prompt": [_USER], **_shared(_USER)}, _PAIR),
        ({"prompt": "q", **_shared(_SYSTEM, _USER)}, {**_PAIR, "prompt": [_SYSTEM, _USER]}),
        (_shared(_USER), _PAIR),
        (_shared(_USER, _GOOD, _USER), {**_PAIR, "prompt": [_USER, _GOOD, _USER]}),
        ({"chosen": _hh("good"), "rejected": _hh("poor")}, _PAIR),
        (
            {
                "conversations": [_SHARE],
                "chosen": {"from": "gpt", "value": "good"},
                "rejected": {"from": "gpt", "value": "poor"},
            },
            _PAIR,
        ),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "chosen_safe": 1, "rejected_safe": 0},
            {**_TEXTS, "chosen_safe": True, "rejected_safe": False},
        ),
        (
            {"prompt": "q", "completion": "a"},
            {"schema": "completion", "prompt": "q", "completion": "a"},
        ),
        (
            {"prompt": [_USER], "completion": [_GOOD], "tools": json.dumps([_TOOL])},
            {**_COMPLETION, "tools": [_TOOL]},
        ),
        ({"prompt": [_USER], "completion": "good"}, _COMPLETION),
        (
            {"prompt": "q", "completion": "a", "label": 0},
            {"schema": "labelled", "prompt": "q", "completion": "a", "label": False},
        ),
        (
            {"prompt": [_USER], "completion": [_GOOD], "label": "True"},
            {**_COMPLETION, "schema": "labelled", "label": True},
        ),
        (
            {"prompt": "q", "completions": ["a", "b"], "labels": [1, 0]},
            {
                "schema": "stepwise",
                "prompt": "q",
                "completions": ["a", "b"],
                "labels": [True, False],
            },
        ),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3", "text": "Below is"},
            {
                "schema": "completion",
                "prompt": "Add.\n\n1 2",
                "completion": "3",
                "text": "Below is",
            },
        ),
        (
            {"instruction": "Add.", "input": "", "output": "3"},
            {"schema": "completion", "prompt": "Add.", "completion": "3"},
        ),
        (
            {"messages": [{"role": "Human", "content": "q"}, {"role": "gpt", "content": "good"}]},
            _CHAT,
        ),
        ({"messages": [_USER, _GOOD], "prompt": "q", "text": "q"}, _CHAT),
        (
            {"conversations": [_USER, _GOOD], "system": "Be short."},
            {"schema": "chat", "messages": [_SYSTEM, _USER, _GOOD]},
        ),
        ({"conversations": _CALLED}, {"schema": "chat", "messages": _CALLS}),
        ({"conversation": [_USER, _GOOD]}, _CHAT),
        ({"text": "a", "prompt": "q"}, {"schema": "text", "text": "a"}),
        ({"prompt": "q", "answer": 4}, {"schema": "prompt", "prompt": "q"}),
        ({"prompt": [_SYSTEM, _USER]}, {"schema": "prompt", "prompt": [_SYSTEM, _USER]}),
    ],
)
def test_rows_are_recognised_and_their_schema_is_known_before_they_are_read(tmp_path, row, wanted):
    """By the columns and what is in them: turns, texts, and the names that roles have."""
    wanted = {name: wanted[name] for name in wanted if name != "text" or wanted["schema"] == "text"}
    assert _fields(tmp_path, row) == wanted
    assert Files(paths=(str(tmp_path / "rows.jsonl"),)).gives() == wanted["schema"]
    assert _fields(tmp_path, row, records=wanted["schema"]) == wanted


def test_what_no_shape_knows_stays_beside_the_record(tmp_path):
    """A reward or a split may need it."""
    (record,) = _read(tmp_path, {"instruction": "Add.", "output": "3", "answer": 3, "id": "x"})
    assert dict(record.meta) == {"answer": 3, "id": "x"}


def test_the_shape_is_said_once_for_files_alike(tmp_path):
    """By the name of the first."""
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"conversations": [_USER, _GOOD]}))
    context = StandAloneContext()
    source = build(Files(paths=(str(tmp_path / "*"),)), context)
    assert len(records_of(source)) == 2
    assert context.said == [f"{tmp_path}/a.jsonl: conversations (ShareGPT) → chat records"]


def test_records_and_columns_win(tmp_path):
    """Over whatever else the rows would be recognised as."""
    row = {"messages": [_USER, _GOOD], "prompt": "q", "chosen": "a", "rejected": "b", "note": "n"}
    assert _fields(tmp_path, row) == _TEXTS
    assert _fields(tmp_path, row, records="chat") == _CHAT
    assert _fields(tmp_path, row, records="prompt") == {"schema": "prompt", "prompt": "q"}
    assert _fields(tmp_path, row, columns={"text": "note"}) == {"schema": "text", "text": "n"}
    columns = {"prompt": "note", "completion": "chosen"}
    wanted = {"schema": "completion", "prompt": "n", "completion": "a"}
    assert _fields(tmp_path, row, columns=columns) == wanted


@pytest.mark.parametrize(
    ("options", "row", "told"),
    [
        ({}, {"content": "a"}, "no known shape: they have content; set `columns: {text: content}`"),
        ({}, {"question": "q", "answer": "a"}, "`columns: {prompt: question, completion: answer}`"),
        (
            {},
            {"question": "q", "chosen": "a", "rejected": "b"},
            "they have question, chosen, rejected; set `columns: {prompt: question}`",
        ),
        ({"records": "prompt"}, {"question": "q"}, "have no prompt records.*{prompt: question}"),
        (
            {"records": "chat"},
            {"x": 1},
            "no chat records: they have x; map columns to me",
        ),
        ({}, {"x": 1}, "map columns to a record's fields by `columns`, or leave the file out"),
        (
            {"records": "chat"},
            {"messages": "hello"},
            "'messages' is str, not a list of turns; the rows look like messages",
        ),
        (
            {"records": "labelled"},
            {"prompt": "q", "completion": "a", "label": 3},
            "label is 3, neith",
        ),
        ({}, {"chosen": "Yes.", "rejected": "No."}, "no dialogue of `Human:` and `Assistant:`"),
    ],
)
def test_rows_of_no_known_shape_are_an_error_that_proposes_columns(tmp_path, options, row, told):
    """Before the first step; nothing is guessed."""
    with pytest.raises(RunError, match=f"rows.jsonl:1: .*{told}"):
        _read(tmp_path, row, row, **options)


@pytest.mark.parametrize(
    ("row", "reason", "what"),
    [
        (
            {"chosen": [_USER, _GOOD], "rejected": [_SYSTEM, _POOR]},
            "prompts-differ",
            "differ before",
        ),
        (
            {"chosen": [_USER, _GOOD, _USER], "rejected": [_USER, _POOR, _USER]},
            "prompts-differ",
            "",
        ),
        ({"chosen": [_GOOD], "rejected": [_POOR]}, "wrong-shape", "no prompt"),
        (
            {"chosen": [_USER, {"role": "assistant", "content": 3}], "rejected": [_USER, _GOOD]},
            "wrong-type",
            "field 'chosen' is a list of dict, not text or a list of messages",
        ),
        (
            {"chosen": ["q", "a"], "rejected": ["q", "b"]},
            "wrong-type",
            "a turn is str, not an object",
        ),
        ({"rejected": [_USER, _POOR]}, "missing-field", "no column 'chosen'"),
    ],
)
def test_a_row_that_is_unlike_the_others_is_bad(tmp_path, row, reason, what):
    """It is given with its line, and what is wrong with it."""
    *_, bad = _read(tmp_path, _shared(_USER), _shared(_USER), row)
    assert isinstance(bad, Bad)
    assert (bad.id, bad.reason) == (f"{tmp_path}/rows.jsonl:3", reason)
    assert what in bad.what


def test_real_dialogues_end_in_the_assistants_last_answers(tmp_path, real_rows):
    """Of HH every row, but those whose dialogues part before the last answer."""
    rows = [{n: row[n] for n in ("chosen", "rejected")} for row in real_rows("hh_harmless_sample")]
    records = _read(tmp_path, *rows)
    good = [(row, r) for row, r in zip(rows, records, strict=True) if not isinstance(r, Bad)]
    assert len(good) > 0.9 * len(rows)
    for row, record in good:
        assert row["chosen"].rpartition("\n\nAssistant:")[2].strip() == record.chosen[-1]["content"]
        assert record.prompt[0]["role"] == record.prompt[-1]["role"] == "user"


def test_the_readme_has_the_table_of_shapes():
    """As the code has it."""
    readme = Path(engine_data.__file__).parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert text == refreshed(text), f"run: python -m engine_data.rows.shapes {readme}"
    assert all(f"| {shape.name} |" in text for shape in SHAPES)
