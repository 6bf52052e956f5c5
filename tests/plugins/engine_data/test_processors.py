"""What is kept of the records."""

from __future__ import annotations

import pytest
from engine_data.config import ExactDedup, Length
from engine_data.processors import build_exact_dedup, build_length
from hypothesis import given, strategies as st
from pydantic import ValidationError

from engine import Chat, Preference, Text


def _text(text: str) -> Text:
    return Text(id=text, source="test", license="MIT", text=text, meta={"a": 1})


def _kept(processor, *texts: str) -> list[str]:
    """What passes; all that passes is unchanged."""
    records = [_text(text) for text in texts]
    return [record.text for record in records if processor.process(record) is record]


def _dedup(*ignore: str):
    return build_exact_dedup(ExactDedup(ignore=ignore), None)


@given(st.lists(st.sampled_from(["", "a", "A", " a", "ab", "\ud800", "\ud800\ud800"])))
def test_of_equal_texts_the_first_stays(texts):
    """In their order, half surrogate pairs and all."""
    assert _kept(_dedup(), *texts) == list(dict.fromkeys(texts))


@pytest.mark.covers("processor/exact-dedup.ignore")
def test_some_differences_do_not_count():
    """Case (as Unicode folds it) and whitespace, each on request."""
    texts = "Straße", "STRASSE", " straße\n", "a  b", "a\tb"
    assert _kept(_dedup(), *texts) == list(texts)
    assert _kept(_dedup("case"), *texts) == ["Straße", " straße\n", "a  b", "a\tb"]
    assert _kept(_dedup("whitespace"), *texts) == ["Straße", "STRASSE", " straße\n", "a  b"]
    assert _kept(_dedup("case", "whitespace"), *texts) == ["Straße", "a  b"]


def test_a_duplicate_is_dropped_by_its_rule():
    """The name is the card's."""
    dedup = _dedup()
    assert dedup.process(_text("a")) == _text("a")
    assert dedup.process(_text("a")) == "duplicate"


def test_records_of_any_schema_are_compared_by_their_own_fields():
    """Neither by identity, source and licence, nor by only a part of them."""
    dedup = _dedup()
    first = Preference(id="1", source="a", prompt="p", chosen="c", rejected="r")
    other = Preference(id="1", source="a", prompt="p", chosen="r", rejected="c")
    again = Preference(id="2", source="b", license="MIT", prompt="p", chosen="c", rejected="r")
    chats = [Chat(id="1", source="a", messages=[{"role": "user", "content": c}]) for c in "xyx"]
    results = [dedup.process(record) for record in (first, other, again, *chats)]
    assert results == [first, other, "duplicate", *chats[:2], "duplicate"]


@pytest.mark.covers("processor/length.min", "processor/length.max")
def test_texts_outside_the_limits_are_dropped_by_rules_of_their_own():
    """Lengths are in characters, and the limits themselves are inside."""
    length = build_length(Length(min=2, max=3), None)
    results = [length.process(_text(text)) for text in ("é", "éé", "ééé", "éééé")]
    assert results == ["too-short", _text("éé"), _text("ééé"), "too-long"]
    assert _kept(build_length(Length(), None), "", "a", "a" * 10_000) == ["a", "a" * 10_000]
    assert _kept(build_length(Length(min=0, max=1), None), "", "a", "ab") == ["", "a"]


def test_limits_that_let_nothing_pass_are_an_error():
    """Told before anything is read."""
    with pytest.raises(ValidationError, match="max 2 is less than min 3"):
        Length(min=3, max=2)
