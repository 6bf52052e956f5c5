"""Bad rows are counted over the whole of a source."""

from __future__ import annotations

import json

import pytest

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Chat, Text
from engine.data.records import NamedSource, Rows, unreadable
from engine.errors import RunError


class _Source(DataSource):
    def __init__(self, good: int, bad: int) -> None:
        self._good, self._bad = good, bad

    def records(self, part):
        yield from (
            Bad(f"a.jsonl:{n}", "not-json", "not JSON: oh") for n in range(1, self._bad + 1)
        )
        yield from (Text(id=f"{n}", source="s", text="a") for n in range(self._good))


@pytest.mark.parametrize(
    ("good", "bad", "limit"), [(0, 9, 0.01), (90, 9, 0.0), (990, 10, 0.01), (50, 50, 0.5)]
)
def test_few_bad_rows_are_left_out_and_counted(good, bad, limit):
    """At most the limit, or fewer than ten; the first ten are kept by their places."""
    rows = Rows(NamedSource("s", _Source(good, bad), limit))
    assert len(list(rows)) == good
    assert (rows.read, dict(rows.bad)) == (good + bad, {"not-json": bad})
    assert rows.places()[0] == "a.jsonl:1 not-json"
    assert len(rows.places()) == min(bad, 10)


@pytest.mark.parametrize(("good", "bad", "limit"), [(0, 10, 0.01), (989, 10, 0.01), (49, 51, 0.5)])
def test_more_bad_rows_than_the_limit_are_an_error_that_names_the_first_ten(good, bad, limit):
    """Once all of the source has been read, so that the numbers are those of the whole."""
    rows = Rows(NamedSource("talks", _Source(good, bad), limit))
    with pytest.raises(RunError) as told:
        list(rows)
    message = str(told.value)
    assert f"source 'talks': {bad} of {good + bad} rows are bad" in message
    assert message.endswith("\n  a.jsonl:10: not JSON: oh")
    assert "raise `bad`" in message


@pytest.mark.parametrize("text", ["half \ud83d a face", "zero \0"])
def test_what_no_tokenizer_takes_is_bad_in_any_source(text):
    """Wherever it stands in the record's own fields; what is kept beside them is not learnt from."""

    class Given(DataSource):
        def records(self, part):
            calls = [{"function": {"name": "f", "arguments": {"x": [text]}}}]
            asked = {"role": "user", "content": "q"}
            turn = {"role": "assistant", "content": None, "tool_calls": calls}
            yield Chat(id="a", source="s", messages=[asked, turn])
            yield Chat(id="b", source="s", messages=[asked], meta={"note": text})
            yield Text(id="c", source="s", text=text)

    rows = Rows(NamedSource("s", Given()))
    assert [record.id for record in rows] == ["b"]
    reason = "nul" if "\0" in text else "lone-surrogate"
    assert rows.places() == [f"a {reason}", f"c {reason}"]


def test_what_is_neither_a_record_nor_a_bad_row_is_the_sources_error():
    """It is named."""

    class Given(DataSource):
        def records(self, part):
            yield {"text": "a"}

    told = "source 's' failed: TypeError: it yielded {'text': 'a'}, which is not a record"
    with pytest.raises(RunError, match=told):
        list(Rows(NamedSource("s", Given())))


def test_an_error_names_the_line_of_the_component_and_not_of_what_it_called():
    """Of a library that it calls as well."""

    class Given(DataSource):
        def records(self, part):
            yield Text(**json.loads("{"))

    place = r"JSONDecodeError: .* \(test_bad_rows\.py:\d+\)$"
    with pytest.raises(RunError, match=place):
        list(Rows(NamedSource("s", Given())))


def test_what_is_nested_too_deep_is_bad():
    """It could not be written down again, nor put into a template: also in what is not learnt."""
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    record = Text(id="a", source="a", text="x", meta={"deep": deep})
    assert unreadable(record) == Bad("a", "too-deep", "'meta' is nested deeper than 100 levels")
